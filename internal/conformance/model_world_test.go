//go:build unix || windows

package conformance_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/stretchr/testify/require"
)

// world is a queue, sources of its own, and what is expected of them.
type world struct {
	name    string
	t       *testing.T
	p       *epore.Poll
	sources []*modelled
	events  map[int]*epore.Events // by capacity
	kept    []*fixture.End        // duplicates of what was closed: its registration lives on
	waker   *epore.Waker
	woken   int // 0: not; else how many Polls ago, plus 1
	box     *epore.Mailbox[int]
	inside  int // how many values are in the box
	boxLate int // how many Polls are over without its event
	timer   *epore.Timer
	setFor  time.Duration // what for, or unset
	tmLate  int

	// The batch in hand: what All must yield now, and what it may, of closed ones.
	hand  *epore.Events
	batch map[epore.Token]epore.Readiness
	loose map[epore.Token]epore.Readiness
}

// The tokens that are no source's.
const (
	wakerToken = math.MaxUint64 - iota
	boxToken
	timerToken
)

// unset is the duration of a timer that is not set.
const unset time.Duration = -1

func newWorld(t *testing.T, name string, p *epore.Poll, kinds []*kind) *world {
	w := &world{
		name: name, t: t, p: p,
		events: make(map[int]*epore.Events),
		batch:  make(map[epore.Token]epore.Readiness),
		loose:  make(map[epore.Token]epore.Readiness),
	}
	for _, k := range kinds {
		w.sources = append(w.sources, &modelled{file: w.newFile(k)})
	}
	var err error
	w.waker, err = epore.NewWaker(p.Registry(), wakerToken)
	require.NoError(t, err)
	w.box, err = epore.NewMailbox[int](p.Registry(), boxToken)
	require.NoError(t, err)
	w.timer, err = epore.NewTimer(p.Registry(), timerToken)
	require.NoError(t, err)
	w.setFor = unset
	return w
}

// newFile opens a file. Of its hints some may be missing, but not where epoll has
// them, and those who speak as it does.
func (w *world) newFile(k *kind) *file {
	here, there := k.of(w.t)
	hinted := runtime.GOOS == "linux" && w.p.Backend() != "kqueue"
	lax := runtime.GOOS != "linux" && runtime.GOOS != "windows"
	return &file{kind: k, here: here, there: there, hinted: hinted, lax: lax}
}

func (w *world) close() error {
	err := w.p.Close()
	for _, s := range w.sources {
		s.close()
	}
	for _, e := range w.kept {
		e.Close()
	}
	return err
}

// mismatch is a difference between a queue and the model.
func (w *world) mismatch(format string, args ...any) error {
	return fmt.Errorf("%s: %s", w.name, fmt.Sprintf(format, args...))
}

// expect compares what an operation answered with what it has to.
func (w *world) expect(what string, err, want error) error {
	if want == nil && err != nil || want != nil && !errors.Is(err, want) {
		return w.mismatch("%s: %v, should be %v", what, err, want)
	}
	return nil
}

// supported says what a registration with in must answer if nothing else is wrong.
func (w *world) supported(in epore.Interest) error {
	if in&^w.p.Capabilities().Interests != 0 {
		return errors.ErrUnsupported
	}
	return nil
}

func (w *world) register(s *modelled, token epore.Token, in epore.Interest) error {
	want := w.supported(in)
	if want == nil && s.reg != nil {
		want = fs.ErrExist
	}
	err := w.expect("register", w.p.Registry().Register(fd(s.here), token, in), want)
	switch {
	case want == nil:
		w.arm(s, token, in)
	case want == fs.ErrExist && w.p.Backend() == "kqueue":
		s.touched() // asking whether it is there may have an edge repeated
	}
	return err
}

func (w *world) reregister(s *modelled, token epore.Token, in epore.Interest) error {
	want := w.supported(in)
	if want == nil && s.reg == nil {
		want = fs.ErrNotExist
	}
	err := w.expect("reregister", w.p.Registry().Reregister(fd(s.here), token, in), want)
	if want == nil {
		delete(w.batch, s.reg.token)
		w.arm(s, token, in)
	}
	return err
}

func (w *world) arm(s *modelled, token epore.Token, in epore.Interest) {
	s.reg = &registration{
		token: token, interest: in, armed: conditions, changed: conditions | hints,
		lags:   w.p.Backend() == "io_uring",
		polled: w.p.Backend() == "iocp",
	}
	s.happens()
}

func (w *world) deregister(s *modelled) error {
	var want error
	if s.reg == nil {
		want = fs.ErrNotExist
	}
	err := w.expect("deregister", w.p.Registry().Deregister(fd(s.here)), want)
	w.forget(s)
	return err
}

func (w *world) forget(s *modelled) {
	if s.reg != nil {
		delete(w.batch, s.reg.token)
		s.reg = nil
	}
}

// replace closes the file of s, and opens another under the same number. A duplicate
// may be left, and then the file and what epoll has of it live on.
func (w *world) replace(s *modelled, k *kind, deregisterFirst, keep bool) error {
	if deregisterFirst && s.reg != nil {
		if err := w.deregister(s); err != nil {
			return err
		}
	}
	number := s.here.FD
	f := w.newFile(k)
	// An iocp takes the number to be registered still.
	keep = keep && len(w.kept) < 2 && w.p.Backend() != "iocp"
	if keep {
		w.kept = append(w.kept, s.here.Dup())
	}
	s.file.close()
	f.here = f.here.TryMoveTo(number)
	s.file = f
	if s.reg == nil {
		return nil
	}
	// Its last event may still be in hand: nobody has told the Registry.
	if bits, ok := w.batch[s.reg.token]; ok {
		w.loose[s.reg.token] = bits
	}
	w.forget(s)
	// io_uring watches numbers, and epoll what lives on, until the Registry is told.
	if keep || w.p.Backend() == "io_uring" {
		return w.deregister(s)
	}
	return nil
}

// What is done to a file. Each says whether it can be.

// wake wakes the world's Poll.
func (w *world) wake() error {
	if w.woken == 0 {
		w.woken = 1
	}
	return w.expect("wake", w.waker.Wake(), nil)
}

// send sends the mailbox a value.
func (w *world) send() error {
	w.inside++
	return w.expect("send", w.box.Send(w.inside), nil)
}

// receive takes at most n values out of the mailbox.
func (w *world) receive(n int) error {
	got := 0
	for range w.box.All() {
		if got++; got == n {
			break
		}
	}
	if want := min(n, w.inside); got != want {
		return w.mismatch("%d values received, should be %d", got, want)
	}
	w.inside -= got
	return nil
}

// setTimer sets the timer to d, or stops it.
func (w *world) setTimer(d time.Duration) error {
	delete(w.batch, timerToken)
	was := w.setFor != unset
	w.setFor, w.tmLate = d, 0
	if d != unset {
		return w.expect("Reset", w.timer.Reset(d), nil)
	}
	if stopped := w.timer.Stop(); stopped != was {
		return w.mismatch("Stop says %v", stopped)
	}
	return nil
}
