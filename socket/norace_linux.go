//go:build !race && !portable

package socket

func raceRead([]byte)               {}
func raceWrite([]byte)              {}
func raceReadBuffers([][]byte, int) {}
func raceWriteBuffers([][]byte)     {}
