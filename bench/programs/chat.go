package main

import (
	"fmt"
	"net"
	nethttp "net/http"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/gorilla/websocket"
	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	nbws "github.com/lesismal/nbio/nbhttp/websocket"
)

// rooms are the members of a chat. Each library has a type of connections and one of frames
// that are made once for all members.
type rooms[Conn comparable, Frame any] struct {
	mu    sync.Mutex
	of    map[string]map[Conn]struct{}
	frame func(text string) Frame
	send  func(Conn, Frame)
}

func (r *rooms[Conn, Frame]) join(room string, c Conn) {
	r.mu.Lock()
	if r.of == nil {
		r.of = make(map[string]map[Conn]struct{})
	}
	if r.of[room] == nil {
		r.of[room] = make(map[Conn]struct{})
	}
	r.of[room][c] = struct{}{}
	r.mu.Unlock()
	r.broadcast(room, "* m joined")
}

func (r *rooms[Conn, Frame]) leave(room string, c Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of[room], c)
	if len(r.of[room]) == 0 {
		delete(r.of, room)
	}
}

// broadcast holds the lock, so that a connection has one writer at a time.
func (r *rooms[Conn, Frame]) broadcast(room, text string) {
	f := r.frame(text)
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.of[room] {
		r.send(c, f)
	}
}

// patience is how long a write may take. A member that reads too slowly fails then.
const patience = 10 * time.Second

func serveGorilla() error {
	r := rooms[*websocket.Conn, *websocket.PreparedMessage]{
		frame: func(text string) *websocket.PreparedMessage {
			m, err := websocket.NewPreparedMessage(websocket.TextMessage, []byte(text))
			if err != nil {
				panic(err) // a text is always right
			}
			return m
		},
		send: func(c *websocket.Conn, m *websocket.PreparedMessage) {
			_ = c.SetWriteDeadline(time.Now().Add(patience))
			_ = c.WritePreparedMessage(m) // a reader learns of it
		},
	}
	// Pooled write buffers, as its documentation advises for many idle connections.
	up := websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024, WriteBufferPool: &sync.Pool{}}
	return nethttp.Serve(listen(), nethttp.HandlerFunc(func(w nethttp.ResponseWriter, req *nethttp.Request) {
		room := req.URL.Query().Get("room")
		c, err := up.Upgrade(w, req, nil)
		if err != nil {
			return
		}
		defer c.Close()
		r.join(room, c)
		defer r.leave(room, c)
		for {
			_, text, err := c.ReadMessage()
			if err != nil {
				return
			}
			r.broadcast(room, "m: "+string(text))
		}
	}))
}

func serveGobwas() error {
	r := rooms[net.Conn, []byte]{
		frame: textFrame,
		send: func(c net.Conn, frame []byte) {
			_ = c.SetWriteDeadline(time.Now().Add(patience))
			_, _ = c.Write(frame) // a reader learns of it
		},
	}
	// Its upgrade without net/http: no request and no buffers remain.
	for l := listen(); ; {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			room := ""
			up := ws.Upgrader{OnRequest: func(uri []byte) error {
				room = string(uri)
				return nil
			}}
			if _, err := up.Upgrade(c); err != nil {
				return
			}
			r.join(room, c)
			defer r.leave(room, c)
			for {
				text, err := wsutil.ReadClientText(c)
				if err != nil {
					return
				}
				r.broadcast(room, "m: "+string(text))
			}
		}()
	}
}

func textFrame(text string) []byte { return ws.MustCompileFrame(ws.NewTextFrame([]byte(text))) }

func serveNbio() error {
	logging.SetLevel(logging.LevelError)
	r := rooms[*nbws.Conn, []byte]{
		frame: textFrame,
		send:  func(c *nbws.Conn, frame []byte) { _, _ = c.UnderlayerConn().Write(frame) },
	}
	up := nbws.NewUpgrader()
	up.KeepaliveTime = time.Hour
	e := nbhttp.NewEngine(nbhttp.Config{Network: "tcp", Addrs: []string{"127.0.0.1:0"}, NPoller: 1, MaxLoad: 100_000,
		ReleaseWebsocketPayload: true, SupportServerOnly: true,
		Handler: nethttp.HandlerFunc(func(w nethttp.ResponseWriter, req *nethttp.Request) {
			room := req.URL.Query().Get("room")
			c, err := up.Upgrade(w, req, nil)
			if err != nil {
				return
			}
			c.OnMessage(func(_ *nbws.Conn, _ nbws.MessageType, text []byte) { r.broadcast(room, "m: "+string(text)) })
			c.OnClose(func(c *nbws.Conn, _ error) { r.leave(room, c) })
			r.join(room, c)
		})})
	if err := e.Start(); err != nil {
		return err
	}
	fmt.Println("listening on", e.Addrs[0])
	select {}
}
