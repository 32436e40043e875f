//go:build unix

package socket_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/socket"
)

// asProgram makes the test binary one of programs.
const asProgram = "EPORE_TEST_SOCKET_PROGRAM"

// programs are what the test binary does, by the value of asProgram, instead of testing.
var programs = map[string]func(){
	"socket as stdout": socketAsStdout,
	"made blocking":    useBlockingDescriptors,
}

func TestMain(m *testing.M) {
	if program := programs[os.Getenv(asProgram)]; program != nil {
		program()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// program prepares a command that runs one of programs.
func program(t *testing.T, name string) (cmd *exec.Cmd, output *strings.Builder) {
	self, err := os.Executable()
	require.NoError(t, err)
	cmd = exec.Command(self)
	cmd.Env = append(os.Environ(), asProgram+"="+name,
		"GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0") // otherwise it takes a second longer with -race
	output = new(strings.Builder)
	cmd.Stderr = output
	return cmd, output
}

// socketAsStdout writes to a closed peer on descriptor 1.
func socketAsStdout() {
	_ = os.Stdout.Close()
	a, b, err := socket.Pair()
	if err == nil {
		_ = b.Close()
		_, err = a.Write([]byte("x"))
	}
	raw, _ := a.SyscallConn()
	_ = raw.Control(func(fd uintptr) { println("fd", fd) })
	println(err.Error())
}

// contract: N3
func TestConn_SocketAsStdoutRaisesNoSignal(t *testing.T) {
	guard(t, "N3: never a SIGPIPE, not even for descriptors 1 and 2, for which the runtime does not ignore it")
	cmd, output := program(t, "socket as stdout")
	require.NoError(t, cmd.Run(), output)
	require.Contains(t, output.String(), "fd 1\n")
	require.Contains(t, output.String(), "broken pipe")
}
