package bus

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// AskProof asks the publisher that leads for a proof, and returns its answer as it came: only the signature says whose it is.
// ErrUnavailable: nobody answers now.
func (c *Conn) AskProof(ctx context.Context, environment, agent string, question []byte) (answer []byte, signature string, err error) {
	reply, err := c.request(ctx, events.ProofSubject(environment, agent), question)
	if err != nil {
		return nil, "", fmt.Errorf("ask for a proof: %w: %w", ErrUnavailable, err)
	}
	return reply.Data, reply.Header.Get(events.SignatureHeader), nil
}

// AnswerProofs hands every question to fn, with the agent that its subject names, one after the other until stop is called. Where fn
// has no answer none is sent.
func (c *Conn) AnswerProofs(fn func(environment, agent string, question []byte) (answer []byte, signature string)) (stop func(), err error) {
	sub, err := c.nc.Subscribe(events.SubjectProofs, func(m *nats.Msg) {
		environment, agent, ok := events.AgentOf(m.Subject)
		if !ok || !isInbox(m.Reply) {
			return
		}
		if answer, signature := fn(environment, agent, m.Data); answer != nil {
			_ = c.publish("answer with a proof", outgoing(m.Reply, answer, signature)) // who asked asks again
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listen to questions for proofs: %w: %w", ErrUnavailable, err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // fails only where the connection is closed
}

// isInbox says whether answers may go to a subject: an inbox, or the name that the server gives one of another account. Whoever asks
// chooses it, and the publisher may write where askers may not.
func isInbox(subject string) bool {
	return strings.HasPrefix(subject, "_INBOX_") || strings.HasPrefix(subject, "_R_.")
}
