//go:build unix || windows

package main

import (
	"io"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
)

func TestEcho_StartFails(t *testing.T) {
	newPoll := func() (*epore.Poll, error) { return epore.New() }
	s := serving(t, config{}, newPoll)
	_, err := start(config{addr: s.addr(), loops: 1}, newPoll)
	require.ErrorIs(t, err, fixture.InUse)
	_, err = start(config{addr: "localhost:0", loops: 1}, newPoll)
	require.ErrorContains(t, err, "resolve it first")
	loops := 3
	if runtime.GOOS == "windows" { // supports one loop only
		loops = 1
	}
	var opened atomic.Int32
	_, err = start(config{addr: "127.0.0.1:0", loops: loops}, func() (*epore.Poll, error) {
		if opened.Add(1) == int32(loops) {
			return nil, io.ErrUnexpectedEOF
		}
		return epore.New()
	})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}
