package nilvalue_test

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/internal/nilvalue"
)

func TestIs(t *testing.T) {
	var nothing io.Reader
	require.True(t, nilvalue.Is(nothing))
	require.True(t, nilvalue.Is((*net.TCPConn)(nil)))
	require.False(t, nilvalue.Is(new(net.TCPConn)))
	require.False(t, nilvalue.Is(0))
	require.False(t, nilvalue.Is(struct{ *net.TCPConn }{}), "a struct is a value, whatever it embeds")
}
