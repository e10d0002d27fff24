package bus_test

import (
	"testing"

	"go.uber.org/goleak"
)

// After every test nothing of this package runs any more. A server that is shut down while it makes a stream leaves that stream's
// goroutines behind.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"))
}
