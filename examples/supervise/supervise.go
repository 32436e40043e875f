//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/tryio"
)

const (
	fromSignals epore.Token = iota
	fromFiles
	fromChild
	fromOutput
	fromQuiet
	fromBackoff
	fromKill
)

// supervisor is the program: everything that it waits for is a source of poll.
type supervisor struct {
	settings
	stdout, stderr io.Writer
	poll           *epore.Poll
	signals        *epore.Signal
	files          watcher
	// quiet fires when files have not changed for a while, backoff when a command that
	// failed is to run again, kill when a command did not end in time.
	quiet, backoff, kill *epore.Timer

	cmd     *exec.Cmd // nil while none runs
	process *epore.Process
	output  *os.File // the reading end; nil when the child's output has ended
	exited  bool     // the child, whose output may not have ended
	again   bool     // run the command again when this one has ended
	ending  bool
	failed  int // times in a row
	status  int // of the last run
}

// A watcher makes fromFiles ready when files may have changed.
type watcher interface {
	// changed reports whether they have, since the last call.
	changed() (bool, error)
	Close() error
}

func supervise(s settings, stdout, stderr io.Writer) (status int, err error) {
	v := &supervisor{settings: s, stdout: stdout, stderr: stderr}
	if v.poll, err = epore.New(); err != nil {
		return 0, err
	}
	defer v.poll.Close()
	r := v.poll.Registry()
	// With SIGPIPE among them, a write to a pipe that nobody reads returns an error: see os/signal.
	passedOn := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2}
	if v.signals, err = epore.NewSignal(r, fromSignals, passedOn...); err != nil {
		return 0, err
	}
	// One that comes after the command's end does not end the program before it returns the
	// command's status.
	signal.Notify(make(chan os.Signal, 1), passedOn...)
	for token, timer := range map[epore.Token]**epore.Timer{fromQuiet: &v.quiet, fromBackoff: &v.backoff, fromKill: &v.kill} {
		if *timer, err = epore.NewTimer(r, token); err != nil {
			return 0, err
		}
	}
	if len(s.watch) > 0 {
		if v.files, err = watch(r, s.watch, s.poll); err != nil {
			return 0, err
		}
		defer v.files.Close()
	}
	defer v.abandon()
	if err := v.start(); err != nil {
		return 0, err
	}
	events := epore.NewEvents(64)
	for !v.over() {
		if err := v.poll.Poll(events, epore.Forever); err != nil {
			return 0, err
		}
		for ev := range events.All() {
			if err := v.handle(ev.Token); err != nil {
				return 0, err
			}
		}
	}
	return v.status, nil
}

// abandon ends the command that still runs when the program fails.
func (v *supervisor) abandon() {
	if v.cmd == nil {
		return
	}
	_ = v.output.Close() // it may wait for room in the pipe
	v.kill.Stop()
	_ = syscall.Kill(-v.cmd.Process.Pid, syscall.SIGTERM)
	kill := time.AfterFunc(v.settings.kill, func() { _ = syscall.Kill(-v.cmd.Process.Pid, syscall.SIGKILL) })
	defer kill.Stop()
	_ = v.cmd.Wait() // the status is that of the failure
}

// over reports whether there is nothing left to do: no child, and none to come.
func (v *supervisor) over() bool {
	return v.cmd == nil && (v.ending || v.files == nil && (v.status == 0 || v.settings.backoff == 0))
}

func (v *supervisor) handle(token epore.Token) error {
	switch token {
	case fromSignals:
		for sig := range v.signals.Received() {
			v.signal(sig)
		}
	case fromFiles:
		changed, err := v.files.changed()
		if changed && err == nil {
			err = v.quiet.Reset(v.settings.quiet) // a later change starts it anew
		}
		return err
	case fromQuiet:
		v.failed = 0
		return v.restart()
	case fromBackoff:
		return v.restart()
	case fromKill:
		if v.cmd != nil && !v.exited {
			_ = syscall.Kill(-v.cmd.Process.Pid, syscall.SIGKILL)
		}
	case fromOutput:
		return v.copyOutput(32 << 10) // the rest gives another event: signals have their turn
	case fromChild:
		v.exited = true
		return v.finish()
	}
	return nil
}

// signal passes a signal on. Except after SIGUSR1 and SIGUSR2, the program ends with its
// child. A second signal does not give the child more time.
func (v *supervisor) signal(sig os.Signal) {
	if sig != syscall.SIGUSR1 && sig != syscall.SIGUSR2 && !v.ending {
		v.ending = true
		_ = v.kill.Reset(v.settings.kill)
	}
	if v.cmd != nil && !v.exited {
		_ = syscall.Kill(-v.cmd.Process.Pid, sig.(syscall.Signal))
	}
}

// restart ends the child that runs, if any, and starts the command again. A child that is
// ending already does not get more time.
func (v *supervisor) restart() error {
	if v.ending || v.again {
		return nil
	}
	if v.cmd == nil {
		return v.startAgain()
	}
	v.again = true
	if !v.exited {
		_ = syscall.Kill(-v.cmd.Process.Pid, syscall.SIGTERM)
	}
	return v.kill.Reset(v.settings.kill)
}

// startAgain starts the command. That it cannot be executed is a failure like others: a
// compiler may be writing it just now.
func (v *supervisor) startAgain() error {
	err := v.start()
	if v.cmd == nil && (errors.As(err, new(*fs.PathError)) || errors.As(err, new(*exec.Error))) {
		v.status = 127 // as of a shell
		return v.retry(err)
	}
	return err
}

func (v *supervisor) start() error {
	v.backoff.Stop()
	v.again, v.exited = false, false
	output, theirs, err := v.openOutput()
	if err != nil {
		return err
	}
	defer theirs.Close()
	cmd := exec.Command(v.command[0], v.command[1:]...)
	cmd.Stdout, cmd.Stderr = theirs, theirs
	// Signals are for its children, too. A group of its own may not read from the terminal, so
	// the command has no input.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return errors.Join(err, output.Close())
	}
	v.cmd, v.output = cmd, output
	if v.process, err = epore.NewProcess(v.poll.Registry(), fromChild, cmd.Process); err != nil {
		return err
	}
	return v.poll.Registry().Register(output, fromOutput, epore.Readable)
}

// openOutput returns the two ends of a pipe, or of a terminal.
func (v *supervisor) openOutput() (ours, theirs *os.File, err error) {
	if v.terminal {
		return openTerminal()
	}
	return os.Pipe()
}

// copyOutput copies at most so many bytes of what the child has written, and notices the end.
func (v *supervisor) copyOutput(most int) error {
	buf := make([]byte, 32<<10)
	for v.output != nil && most > 0 {
		n, err := tryio.Read(v.output, buf[:min(len(buf), most)])
		if _, err := v.stdout.Write(buf[:n]); err != nil {
			return err
		}
		most -= n
		switch {
		case err == tryio.ErrWouldBlock:
			return nil
		case err == io.EOF || errors.Is(err, syscall.EIO): // EIO: the terminal's child has gone
			return v.endOutput()
		case err != nil:
			return err
		}
	}
	return nil
}

func (v *supervisor) endOutput() error {
	err := errors.Join(v.poll.Registry().Deregister(v.output), v.output.Close())
	v.output = nil
	return err
}

const (
	maxBackoff = 30 * time.Second
	maxPipe    = 1 << 20 // bytes that a pipe can hold (pipe(7))
)

// finish is called when the child has ended. What it wrote is still in the pipe. What its
// children write later is not waited for: they may outlive it, and never stop writing.
func (v *supervisor) finish() error {
	if err := v.copyOutput(maxPipe); err != nil {
		return err
	}
	if v.output != nil {
		if err := v.endOutput(); err != nil {
			return err
		}
	}
	err := v.cmd.Wait()
	v.status = v.cmd.ProcessState.ExitCode()
	if v.status < 0 {
		v.status = 128 + int(v.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
	}
	v.cmd = nil
	v.kill.Stop()
	if err := v.process.Close(); err != nil {
		return err
	}
	switch {
	case v.ending:
		return nil
	case v.again:
		return v.startAgain()
	case err == nil:
		v.failed = 0
		return nil
	}
	return v.retry(err)
}

// retry reports that the command has failed, and has it run again after a while.
func (v *supervisor) retry(err error) error {
	fmt.Fprintf(v.stderr, "supervise: %s: %v\n", v.command[0], err)
	if v.settings.backoff == 0 {
		return nil
	}
	wait := v.settings.backoff
	for n := 0; n < v.failed && wait < maxBackoff; n++ {
		wait *= 2
	}
	v.failed++
	return v.backoff.Reset(min(wait, maxBackoff))
}
