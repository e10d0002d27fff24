// Package leaktest finds goroutines that a package's tests leave behind.
//
// It waits for those that are still ending, however busy the machine is. It is for tests only.
package leaktest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines have to end; what is left behind stays for ever.
const patience = time.Minute

// Main runs the tests and exits; they have failed where goroutines are left that are not ignored.
func Main(m *testing.M, ignored ...goleak.Option) {
	code := m.Run()
	if code == 0 {
		if err := Find(ignored...); err != nil {
			fmt.Fprintln(os.Stderr, "after the tests there is still:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// Find says which goroutines do not end.
func Find(ignored ...goleak.Option) error {
	for until := time.Now().Add(patience); ; {
		err := goleak.Find(ignored...) // which itself tries again for half a second
		if err == nil || time.Now().After(until) {
			return err
		}
	}
}
