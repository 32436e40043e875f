package main

import (
	"encoding/binary"
	"os"

	"github.com/epore/epore"
	"github.com/epore/epore/fileop"
	"github.com/epore/epore/loop"
)

// server appends the records of its connections to a log. While one batch of records is
// written and synced, the next one gathers: group commit.
type server struct {
	log  *os.File
	op   *fileop.Op
	fail func(error)

	end     int64  // of what is written, or being written
	records uint64 // the number of the next record

	batch, writing     []byte
	waiters, answering []waiter
	underWay           bool
	failed             bool
	paused             []*loop.Conn // until there is room in the batch
	commits            uint64
	bufs               [1][]byte
}

// maxBatch is the size from which a batch takes no further record.
const maxBatch = 1 << 20

// waiter is a record whose client waits for the answer.
type waiter struct {
	c      *loop.Conn
	number uint64
}

// client is the value of a connection.
type client struct {
	waiting int  // for so many answers
	ended   bool // nothing more comes
}

func newServer(l *loop.Loop, log *os.File, records uint64, end int64, fail func(error), opts ...fileop.Option) (*server, *fileop.Queue, error) {
	q, err := fileop.New(l.Poll().Registry(), opts...)
	if err != nil {
		return nil, nil, err
	}
	s := &server{log: log, fail: fail, end: end, records: records}
	s.op = q.NewOp(l.Handle(s.synced))
	return s, q, nil
}

// Open implements [loop.Handler].
func (s *server) Open(c *loop.Conn) { c.SetValue(new(client)) }

// Data implements [loop.Handler]. A message is the length of the record (4 bytes) and the
// record.
func (s *server) Data(c *loop.Conn, b []byte) (used int) {
	for len(b)-used >= 4 {
		if len(s.batch) >= maxBatch {
			c.Pause()
			s.paused = append(s.paused, c)
			break
		}
		length := binary.BigEndian.Uint32(b[used:])
		if length > maxRecord {
			c.Abort() // the record is too long
			return len(b)
		}
		size := int(length)
		if len(b)-used-4 < size {
			break
		}
		begins := s.end // of the batch
		if s.underWay {
			begins += int64(len(s.writing))
		}
		s.batch = appendRecord(s.batch, s.records, begins, b[used+4:used+4+size])
		s.waiters = append(s.waiters, waiter{c, s.records})
		s.records++
		c.Value().(*client).waiting++
		used += 4 + size
	}
	s.commit()
	return used
}

// commit starts to write the batch, unless another one is being written.
func (s *server) commit() {
	if s.underWay || s.failed || len(s.batch) == 0 {
		return
	}
	s.batch, s.writing = s.writing[:0], s.batch
	s.waiters, s.answering = s.answering[:0], s.waiters
	s.bufs[0] = s.writing
	if err := s.op.WriteSync(s.log, s.bufs[:], s.end); err != nil {
		s.broken(err)
		return
	}
	s.underWay = true
	for i, c := range s.paused {
		c.Resume()
		s.paused[i] = nil
	}
	s.paused = s.paused[:0]
}

// synced handles the end of a batch: it is on disk.
func (s *server) synced(epore.Event) {
	s.underWay = false
	if _, err := s.op.Result(); err != nil {
		s.broken(err)
		return
	}
	s.commits++
	s.end += int64(len(s.writing))
	for i, w := range s.answering {
		s.answering[i] = waiter{}
		state := w.c.Value().(*client)
		state.waiting--
		var answer [8]byte
		binary.BigEndian.PutUint64(answer[:], w.number)
		_, _ = w.c.Write(answer[:]) // if that fails, the loop closes the connection
		if state.ended && state.waiting == 0 {
			w.c.CloseWrite()
		}
	}
	s.commit()
}

// broken ends the server. After a failed sync nobody knows what is on the disk, and trying
// again could succeed without the data: the next start finds out from the checksums.
func (s *server) broken(err error) {
	s.failed = true
	s.fail(err)
}

// EOF implements [loop.EOFHandler]: a client that has sent its last record still gets its
// answers.
func (s *server) EOF(c *loop.Conn) {
	state := c.Value().(*client)
	if state.ended = true; state.waiting == 0 {
		c.CloseWrite()
	}
}

// Close implements [loop.Handler].
func (s *server) Close(*loop.Conn, error) {}
