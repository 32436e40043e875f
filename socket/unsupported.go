//go:build !unix && !windows

package socket

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
)

// The functions that a system must provide. On these systems no socket is ever created.

const (
	maxWrite      = maxTransfer
	pathSize      = 108
	emulatesEdges = false
	pairProto     = unixStream
	pairFamily    = unixDomain
)

var (
	errAgain       = errors.New("again")
	errRefused     = errors.New("connection refused")
	errUnsupported = fmt.Errorf("no sockets on %s yet: %w", runtime.GOOS, errors.ErrUnsupported)
)

func newSocket(*target) (handle, error)                        { return 0, errUnsupported }
func newPair() ([2]handle, error)                              { return [2]handle{}, errUnsupported }
func duplicate(handle) (handle, family, error)                 { return 0, 0, errUnsupported }
func closeNew(handle) error                                    { return errUnsupported }
func probeDualStack() (bool, error)                            { return false, nil }
func bind(handle, *target) error                               { return errUnsupported }
func listen(handle, int) error                                 { return errUnsupported }
func connect(handle, *target) error                            { return errUnsupported }
func pendingError(handle) error                                { return errUnsupported }
func isConnected(handle) bool                                  { return false }
func isNotConnected(error) bool                                { return false }
func shutdownRead(handle) error                                { return errUnsupported }
func shutdownWrite(handle) error                               { return errUnsupported }
func localAddrPort(handle) netip.AddrPort                      { return netip.AddrPort{} }
func localName(handle, proto) net.Addr                         { return nil }
func remoteName(handle, proto) net.Addr                        { return nil }
func getNoDelay(handle) (bool, error)                          { return false, errUnsupported }
func setNoDelay(handle, bool) error                            { return errUnsupported }
func setReuseAddr(handle) error                                { return errUnsupported }
func setMulticastReuse(handle) error                           { return errUnsupported }
func setReusePort(handle) error                                { return errUnsupported }
func setBroadcast(handle) error                                { return errUnsupported }
func setReadBuffer(handle, int) error                          { return errUnsupported }
func setWriteBuffer(handle, int) error                         { return errUnsupported }
func setLinger(handle, int) error                              { return errUnsupported }
func setKeepAlive(handle, bool) error                          { return errUnsupported }
func setKeepAliveIdle(handle, int) error                       { return errUnsupported }
func setKeepAliveInterval(handle, int) error                   { return errUnsupported }
func setKeepAliveCount(handle, int) error                      { return errUnsupported }
func sysRead(handle, []byte) (int, error)                      { return 0, errUnsupported }
func sysWrite(handle, []byte) (int, error)                     { return 0, errUnsupported }
func sysReadBuffers(handle, [][]byte) (int, bool, error)       { return 0, false, errUnsupported }
func sysWriteBuffers(handle, [][]byte) (int, error)            { return 0, errUnsupported }
func sysAccept(handle) (handle, error)                         { return 0, errUnsupported }
func sysReceive(handle, []byte) (int, error)                   { return 0, errUnsupported }
func sysSend(handle, []byte) (int, error)                      { return 0, errUnsupported }
func sysSendToUnix(handle, []byte, string) (int, error)        { return 0, errUnsupported }
func sysReceiveFromUnix(handle, []byte) (int, net.Addr, error) { return 0, nil, errUnsupported }
func sysReceiveFrom(handle, []byte) (int, netip.AddrPort, error) {
	return 0, netip.AddrPort{}, errUnsupported
}
func sysSendTo(handle, family, []byte, netip.AddrPort) (int, error) { return 0, errUnsupported }
