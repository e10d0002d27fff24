// Publisher is Lockstep's control plane and its command line: it proposes, approves, releases and rolls back configuration changes,
// and shows where every environment stands.
//
// Guarantees: data goes to standard output and everything else to standard error; an error is one line that says what, why and
// what to do next; exit codes are those of 'publisher help exit-codes'; nothing is asked where nobody can answer. It decides
// nothing itself: every verb but serve and demo is a call of the HTTP API.
package main

import (
	"os"
	_ "time/tzdata" // freezes name time zones, and not every machine has them

	"github.com/lockstep-dev/lockstep/internal/console"
)

func main() {
	ctx, stop := console.Interruptible()
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
