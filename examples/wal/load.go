package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// load has clients append records, each after the answer to the one before, and prints the
// rate and the latency.
func load(addr string, clients, size int, length time.Duration, stdout io.Writer) error {
	end := time.Now().Add(length)
	var mu sync.Mutex
	var all []time.Duration
	var firstErr error
	var wg sync.WaitGroup
	begin := time.Now()
	for range clients {
		wg.Go(func() {
			mine, err := appendUntil(addr, size, end)
			mu.Lock()
			defer mu.Unlock()
			if all = append(all, mine...); firstErr == nil {
				firstErr = err
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	if len(all) == 0 {
		return fmt.Errorf("no record was appended: %w", firstErr)
	}
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[int(q*float64(len(all)-1))].Round(time.Microsecond) }
	fmt.Fprintf(stdout, "%.0f records/s; latency %v median, %v p99, %v longest\n",
		float64(len(all))/took.Seconds(), at(0.5), at(0.99), at(1))
	return firstErr
}

// appendUntil is one client.
func appendUntil(addr string, size int, end time.Time) (latencies []time.Duration, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	message := binary.BigEndian.AppendUint32(nil, uint32(size))
	message = append(message, make([]byte, size)...)
	in, answer := bufio.NewReader(c), make([]byte, 8)
	for {
		begin := time.Now()
		if !begin.Before(end) {
			return latencies, nil
		}
		if _, err := c.Write(message); err != nil {
			return latencies, err
		}
		if _, err := io.ReadFull(in, answer); err != nil {
			return latencies, err
		}
		latencies = append(latencies, time.Since(begin))
	}
}
