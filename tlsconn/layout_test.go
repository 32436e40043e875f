package tlsconn

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// What a message touches is one cache line, and a Conn is two.
func TestConn_Size(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("it is smaller here")
	}
	var c Conn
	require.LessOrEqual(t, unsafe.Offsetof(c.link)+unsafe.Offsetof(c.link.readErr), uintptr(64))
	require.LessOrEqual(t, unsafe.Sizeof(c), uintptr(128))
}

// A peer that never lets Read come to would-block must not make the count overflow: Pending
// would then be false although crypto/tls holds records.
func TestRecordCounter_StaysAtUnknown(t *testing.T) {
	r := recordCounter{whole: unknown}
	record := []byte{23, 3, 3, 0, 1, 0}
	for range 3 {
		r.pass(record)
	}
	require.EqualValues(t, unknown, r.whole)
	require.True(t, r.use())
}
