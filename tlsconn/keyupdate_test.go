//go:build unix || windows

package tlsconn_test

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/socket"
)

// sender is one direction of TLS 1.3 (RFC 8446, sections 5.2 and 7), made by hand, because
// crypto/tls has no way to ask for a key update.
type sender struct {
	secret []byte
	hash   func() hash.Hash
	keyLen int
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// newSender takes over a direction whose secret stands in a key log under label.
func newSender(t testing.TB, log, label string, suite uint16) *sender {
	t.Helper()
	s := &sender{hash: sha256.New, keyLen: 16}
	switch suite {
	case tls.TLS_AES_128_GCM_SHA256:
	case tls.TLS_AES_256_GCM_SHA384:
		s.hash, s.keyLen = sha512.New384, 32
	default:
		t.Skipf("without AES in hardware crypto/tls prefers %s, which this test does not make", tls.CipherSuiteName(suite))
	}
	lines := bufio.NewScanner(strings.NewReader(log))
	for lines.Scan() {
		if f := strings.Fields(lines.Text()); f[0] == label {
			var err error
			s.secret, err = hex.DecodeString(f[2])
			require.NoError(t, err)
		}
	}
	require.NotNil(t, s.secret)
	s.keys(t)
	return s
}

func (s *sender) expand(t testing.TB, label string, n int) []byte {
	t.Helper()
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len("tls13 "+label)))
	info = append(info, "tls13 "+label...)
	info = append(info, 0)
	b, err := hkdf.Expand(s.hash, s.secret, string(info), n)
	require.NoError(t, err)
	return b
}

func (s *sender) keys(t testing.TB) {
	t.Helper()
	block, err := aes.NewCipher(s.expand(t, "key", s.keyLen))
	require.NoError(t, err)
	s.aead, err = cipher.NewGCM(block)
	require.NoError(t, err)
	s.iv, s.seq = s.expand(t, "iv", 12), 0
}

const (
	typeHandshake   = 22
	typeApplication = 23
)

// record encrypts one record.
func (s *sender) record(kind byte, text []byte) []byte {
	inner := append(bytes.Clone(text), kind)
	header := []byte{typeApplication, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(header[3:], uint16(len(inner)+s.aead.Overhead()))
	nonce := bytes.Clone(s.iv)
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^s.seq)
	s.seq++
	return s.aead.Seal(header, nonce, inner, header)
}

// update announces new keys, asks for the same, and goes over to them.
func (s *sender) update(t testing.TB) []byte {
	t.Helper()
	const keyUpdate, requested = 24, 1
	b := s.record(typeHandshake, []byte{keyUpdate, 0, 0, 1, requested})
	s.secret = s.expand(t, "traffic upd", s.hash().Size())
	s.keys(t)
	return b
}

// The answer to a key update is written by Read. It takes its place behind what waits.
// contract: T1, T3
func TestConn_KeyUpdateWhileWritingIsBlocked(t *testing.T) {
	guard(t, "a key update is answered, behind what waits to be sent")
	var log bytes.Buffer
	client := clientConfig(tls.VersionTLS13)
	client.KeyLogWriter = &log
	w := newWire(t, client, serverConfig(tls.VersionTLS13))
	w.establish(t)
	read(t, w.client, 99)
	s := newSender(t, log.String(), "CLIENT_TRAFFIC_SECRET_0", w.client.ConnectionState().CipherSuite)
	write := func(b []byte) {
		_, err := w.far.Write(b)
		require.NoError(t, err)
		travelled(t, w.server.Socket())
	}

	var data []byte
	for w.server.Buffered() == 0 { // until writing is blocked
		piece := random(1 << 20)
		_, err := w.server.Write(piece)
		require.NoError(t, err)
		data = append(data, piece...)
	}
	before := w.server.Buffered()
	for round := range 3 {
		write(s.update(t))
		write(s.record(typeApplication, []byte{'a' + byte(round)}))
		got, err := read(t, w.server, 99)
		require.Equal(t, []byte{'a' + byte(round)}, got)
		require.Equal(t, socket.ErrWouldBlock, err)
	}
	require.Greater(t, w.server.Buffered(), before, "the answers wait, too")
	_, err := w.server.Write([]byte("under the last keys"))
	require.NoError(t, err)

	want := append(data, "under the last keys"...)
	w.clientReads(t, want)

	// Not blocked, the answer leaves by itself.
	write(s.update(t))
	_, err = read(t, w.server, 99)
	require.Equal(t, socket.ErrWouldBlock, err)
	require.Zero(t, w.server.Buffered())
	require.NotZero(t, w.toClient(t, 1<<10), "the answer")
}
