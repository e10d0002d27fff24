// Agent is Lockstep's sidecar: it follows one environment's releases, applies them to the instance beside it, and acknowledges.
//
// Guarantees: data goes to standard output and everything else to standard error; an error is one line that says what, why and
// what to do next; exit codes are those of 'agent help exit-codes'. What the agent itself promises stands in internal/agent.
package main

import (
	"os"
	"runtime/debug"

	"github.com/lockstep-dev/lockstep/internal/console"
)

// collectAt is the garbage collector's target in percent, unless GOGC says another: a sidecar is idle nearly always, and what it holds in
// memory meanwhile is its host's.
const collectAt = 50

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	ctx, stop := console.Interruptible()
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
