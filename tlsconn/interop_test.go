//go:build unix

package tlsconn_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
	"github.com/epore/epore/tlsconn"
)

// files writes a certificate and its key where other programs can read them.
func files(t testing.TB, c tls.Certificate) (cert, key, ca string) {
	t.Helper()
	dir := t.TempDir()
	cert, key, ca = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	require.NoError(t, err)
	for name, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: c.Certificate[0]},
		key:  {Type: "PRIVATE KEY", Bytes: der},
		ca:   {Type: "CERTIFICATE", Bytes: theAuthority().cert.Raw},
	} {
		require.NoError(t, os.WriteFile(name, pem.EncodeToMemory(block), 0o600))
	}
	return cert, key, ca
}

// echoServer serves one connection with a loop of its own, and returns its address.
func echoServer(t *testing.T, config *tls.Config) (addr string, done <-chan struct{}) {
	t.Helper()
	p, err := epore.New()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	l, err := socket.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, p.Registry().Register(l, 1, epore.Readable))
	ended := make(chan struct{})
	t.Cleanup(func() { <-ended })
	go func() {
		defer close(ended)
		defer l.Close()
		runtime.LockOSThread() // for an io_uring
		defer runtime.UnlockOSThread()
		events := epore.NewEvents(1)
		require.NoError(t, p.Poll(events, 30*time.Second))
		sock, err := l.Accept()
		require.NoError(t, err)
		c := tlsconn.Server(sock, config)
		drive(t, p, c, echo(t, c))
		require.NoError(t, c.CloseWrite())
		drive(t, p, c, func() bool { return c.Buffered() == 0 })
		require.NoError(t, c.Close())
	}()
	return l.Addr().String(), ended
}

// conversation is a program that is spoken to.
type conversation struct {
	t     *testing.T
	stdin io.WriteCloser
	out   *bufio.Reader
	cmd   *exec.Cmd
}

func talk(t *testing.T, name string, args ...string) *conversation {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed here", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	t.Cleanup(cancel)
	c := &conversation{t: t, cmd: exec.CommandContext(ctx, path, args...)}
	c.stdin, err = c.cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	c.cmd.Stderr = c.cmd.Stdout
	c.out = bufio.NewReader(stdout)
	require.NoError(t, c.cmd.Start())
	return c
}

func (c *conversation) say(text string) {
	c.t.Helper()
	_, err := io.WriteString(c.stdin, text)
	require.NoError(c.t, err)
}

// hear reads until a line begins with text, and returns it.
func (c *conversation) hear(text string) string {
	c.t.Helper()
	for heard := ""; ; {
		line, err := c.out.ReadString('\n')
		heard += line
		require.NoError(c.t, err, "%q was not said: %s", text, heard)
		if strings.HasPrefix(line, text) {
			return line
		}
	}
}

// contract: T1
func TestInterop_OpensslClient(t *testing.T) {
	for _, version := range []string{"tls1_2", "tls1_3"} {
		for _, cert := range []tls.Certificate{ecdsaCert(), rsaCert()} {
			t.Run(fmt.Sprintf("%s, %T", version, cert.PrivateKey), func(t *testing.T) {
				guard(t, "openssl s_client talks to a Conn")
				_, _, ca := files(t, cert)
				addr, done := echoServer(t, &tls.Config{Certificates: []tls.Certificate{cert}})
				c := talk(t, "openssl", "s_client", "-connect", addr, "-CAfile", ca, "-verify_return_error", "-servername", "example.test", "-"+version)
				c.say("hello\n")
				c.hear("hello")
				if version == "tls1_3" {
					for _, update := range []string{"K", "k", "K"} { // with and without asking for ours
						c.say(update + "\n")
						c.hear("KEYUPDATE")
						c.say("after " + update + "\n")
						c.hear("after " + update)
					}
				}
				for _, b := range "byte by byte\n" {
					c.say(string(b))
				}
				c.hear("byte by byte")
				c.say(strings.Repeat("much ", 50_000) + "\n")
				c.hear(strings.Repeat("much ", 50_000))
				require.NoError(t, c.stdin.Close())
				_, _ = io.Copy(io.Discard, c.out)
				require.NoError(t, c.cmd.Wait())
				<-done
			})
		}
	}
}

// contract: T1
func TestInterop_OpensslServer(t *testing.T) {
	for _, version := range []string{"tls1_2", "tls1_3"} {
		t.Run(version, func(t *testing.T) {
			guard(t, "a Conn talks to openssl s_server")
			cert, key, _ := files(t, ecdsaCert())
			s := talk(t, "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", cert, "-key", key, "-rev", "-"+version)
			_, addr, found := strings.Cut(s.hear("ACCEPT"), "ACCEPT ")
			if !found {
				t.Skip("this openssl does not say which port it chose")
			}
			p, err := epore.New()
			require.NoError(t, err)
			require.NoError(t, p.Poll(epore.NewEvents(1), 0)) // locks the goroutine, if it is an io_uring
			defer p.Close()
			sock, err := socket.Dial("tcp", strings.TrimSpace(addr))
			require.NoError(t, err)
			c := tlsconn.Client(sock, &tls.Config{RootCAs: theAuthority().pool, ServerName: "example.test"})
			closeLater(t, c)
			drive(t, p, c, func() bool { err := c.Handshake(); return err != socket.ErrWouldBlock })
			_, err = c.Write([]byte("stressed\n"))
			require.NoError(t, err)
			var got []byte
			drive(t, p, c, func() bool {
				b, err := read(t, c, 99)
				require.Equal(t, socket.ErrWouldBlock, err)
				got = append(got, b...)
				return len(got) >= 9
			})
			require.Equal(t, "desserts\n", string(got))
			require.NoError(t, c.Close())
			require.NoError(t, s.cmd.Process.Kill())
			_, _ = io.Copy(io.Discard, s.out)
			_ = s.cmd.Wait()
		})
	}
}
