package loop

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
	require.EqualValues(t, 64, unsafe.Offsetof(Conn{}.tls))
	require.EqualValues(t, 128, unsafe.Sizeof(Conn{}))
}
