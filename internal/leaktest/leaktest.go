// Package leaktest finds goroutines that a package's tests leave behind.
//
// It waits for those that are still ending, however busy the machine is. It is for tests only.
package leaktest

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines have to end; what is left behind stays for ever.
const patience = time.Minute

// Main runs the tests and exits; they have failed where goroutines are left that are not ignored.
func Main(m *testing.M, ignored ...goleak.Option) {
	goleak.VerifyTestMain(patient{m, ignored}, ignored...)
}

// patient are tests that end when their goroutines have ended.
type patient struct {
	m       *testing.M
	ignored []goleak.Option
}

func (p patient) Run() int {
	code := p.m.Run()
	if code == 0 {
		_ = Find(p.ignored...) // what there is then is found again, and said
	}
	return code
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
