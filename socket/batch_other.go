//go:build !unix && !windows

package socket

func sysReadBatch(handle, proto, []Message) (int, error)        { return 0, errUnsupported }
func sysWriteBatch(handle, *PacketConn, []Message) (int, error) { return 0, errUnsupported }
func sysReadMsg(handle, []byte, []byte) (int, int, error)       { return 0, 0, errUnsupported }
func sysWriteMsg(handle, []byte, []byte) (int, error)           { return 0, errUnsupported }
