package bustest

import "go.uber.org/goleak"

// LeftBehind are the goroutines of an embedded server that is shut down, which forgets a stream or a reader that is just being made:
// its store's and its own. Any other goroutine of the server's is still a leak.
func LeftBehind() (out []goleak.Option) {
	const server = "github.com/nats-io/nats-server/v2/server"
	for _, name := range []string{
		".(*fileStore).flushStreamStateLoop", ".(*msgBlock).flushLoop", ".(*consumerFileStore).flushLoop", "/ats.Register.func1",
		".(*stream).signalConsumersLoop", ".(*stream).internalLoop",
		".(*consumer).loopAndGatherMsgs", ".(*consumer).processInboundAcks", ".(*consumer).processInboundNextMsgReqs",
	} {
		out = append(out, goleak.IgnoreAnyFunction(server+name))
	}
	return out
}
