//go:build unix || windows

package fileop_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/epore/epore"
	"github.com/epore/epore/fileop"
	"github.com/epore/epore/loop"
)

// A record is written and synced, and read back, while the loop could serve other events.
func Example() {
	f, remove := temporary()
	defer remove()
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close() // and with it the Queue
	q, err := fileop.New(p.Registry())
	if err != nil {
		log.Fatal(err)
	}
	const written, read = 1, 2
	writer, reader := q.NewOp(written), q.NewOp(read)
	if err := writer.WriteSync(f, [][]byte{[]byte("head,"), []byte("body")}, 0); err != nil {
		log.Fatal(err)
	}
	buf := make([]byte, 9)
	events := epore.NewEvents(16)
	for {
		if err := p.Poll(events, epore.Forever); err != nil {
			log.Fatal(err)
		}
		for ev := range events.All() {
			switch ev.Token {
			case written:
				n, err := writer.Result()
				fmt.Println(n, "bytes on disk:", err)
				if err := reader.ReadAt(f, buf, 0); err != nil {
					log.Fatal(err)
				}
			case read:
				n, err := reader.Result()
				fmt.Printf("%s %v\n", buf[:n], err)
				return
			}
		}
	}
	// Output:
	// 9 bytes on disk: <nil>
	// head,body <nil>
}

// With package loop, the event of an Op comes to the function that was passed to Handle. See
// examples/wal for a server.
func Example_loop() {
	f, remove := temporary()
	defer remove()
	ctx, stop := context.WithCancel(context.Background())
	err := loop.Run(ctx, 1, loop.Config{}, func(l *loop.Loop) error {
		q, err := fileop.New(l.Poll().Registry())
		if err != nil {
			return err
		}
		var op *fileop.Op
		op = q.NewOp(l.Handle(func(epore.Event) {
			n, err := op.Result()
			fmt.Println(n, err)
			stop()
		}))
		return op.WriteAt(f, []byte("a record"), 0)
	})
	fmt.Println(err)
	// Output:
	// 8 <nil>
	// <nil>
}

func temporary() (f *os.File, remove func()) {
	dir, err := os.MkdirTemp("", "epore")
	if err != nil {
		log.Fatal(err)
	}
	if f, err = os.Create(filepath.Join(dir, "file")); err != nil {
		log.Fatal(err)
	}
	return f, func() {
		if err := errors.Join(f.Close(), os.RemoveAll(dir)); err != nil {
			log.Print(err)
		}
	}
}
