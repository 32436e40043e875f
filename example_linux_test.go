package epore_test

import (
	"fmt"
	"os/exec"

	"github.com/epore/epore"
)

// The end of a program is an event. Wait then returns at once.
func ExampleProcess() {
	p, _ := epore.New()
	defer p.Close()
	cmd := exec.Command("sh", "-c", "exit 3")
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		return
	}
	child, err := epore.NewProcess(p.Registry(), 5, cmd.Process)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer child.Close()
	events := epore.NewEvents(8)
	p.Poll(events, epore.Forever)
	for ev := range events.All() {
		fmt.Println(ev, cmd.Wait())
	}
	// Output: token 5: Readable exit status 3
}
