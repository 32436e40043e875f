package epore_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/epore/epore"
)

// TestMain skips the Examples, which cannot do so themselves, where New has no
// queue.
func TestMain(m *testing.M) {
	flag.Parse()
	p, err := epore.New()
	switch {
	case err == nil:
		_ = p.Close()
	case errors.Is(err, errors.ErrUnsupported) && flag.Lookup("test.skip").Value.String() == "":
		fmt.Println("the Examples are skipped:", err)
		_ = flag.Set("test.skip", "^Example")
	}
	os.Exit(m.Run())
}
