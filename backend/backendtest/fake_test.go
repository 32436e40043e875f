package backendtest

import (
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
)

// The core is tested by what the Fake records, so the Fake must record it.
func TestFake_Violations(t *testing.T) {
	open := func(t *testing.T, f *Fake) { require.NoError(t, f.Open()) }
	calls := map[string]func(f *Fake){
		"Capabilities": func(f *Fake) { f.Capabilities() },
		"Add":          func(f *Fake) { _ = f.Add(5, 1, backend.Readable) },
		"Modify":       func(f *Fake) { _ = f.Modify(5, 1, backend.Readable) },
		"Delete":       func(f *Fake) { _ = f.Delete(5) },
		"Wait":         func(f *Fake) { _, _ = f.Wait(make([]backend.Event, 1), 0) },
		"Wake":         func(f *Fake) { _ = f.Wake() },
		"Close":        func(f *Fake) { _ = f.Close() },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			f := NewFake()
			f.Name() // allowed at any time
			call(f)
			require.Equal(t, []string{name + " before Open"}, f.Violations())

			f = NewFake()
			f.FailNext("Open", errors.New("refused"))
			require.Error(t, f.Open())
			f.Name()
			call(f)
			require.Equal(t, []string{name + " after a failed Open"}, f.Violations())

			f = NewFake()
			open(t, f)
			if name != "Close" {
				call(f)
			}
			require.NoError(t, f.Close())
			require.Empty(t, f.Violations())
			f.Name()
			call(f)
			require.Equal(t, []string{name + " after Close"}, f.Violations())
		})
	}
	for want, broken := range map[string]func(f *Fake){
		"second Open":                         func(f *Fake) { _ = f.Open() },
		"zero Key":                            func(f *Fake) { _ = f.Add(5, 0, backend.Readable) },
		"invalid Interest Edge":               func(f *Fake) { _ = f.Add(5, 1, backend.Edge) },
		"invalid Interest Readable|Exclusive": func(f *Fake) { _ = f.Modify(5, 1, backend.Readable|backend.Exclusive) },
		"Wait with no room for an event":      func(f *Fake) { _, _ = f.Wait(nil, 0) },
		"Close during another call":           func(f *Fake) { during(f, func() { _ = f.Close() }) },
		"concurrent Wait":                     func(f *Fake) { during(f, func() { _, _ = f.Wait(make([]backend.Event, 1), 0) }) },
	} {
		t.Run(want, func(t *testing.T) {
			f := NewFake()
			open(t, f)
			broken(f)
			require.Equal(t, []string{want}, f.Violations())
		})
	}
}

// during calls do while a Wait of f blocks.
func during(f *Fake, do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = f.Wait(make([]backend.Event, 1), -1)
	}()
	for f.waiting.Load() == 0 {
		runtime.Gosched()
	}
	do()
	f.Inject(backend.Event{Key: 1, Ready: backend.ReadyReadable})
	<-done
}
