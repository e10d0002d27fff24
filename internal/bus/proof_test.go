package bus_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func TestAnAgentAsksForProofsWithItsOwnCredentials(t *testing.T) {
	g := bustest.StartGuarded(t)
	publisher := g.Publisher(func(environment string, why error) { t.Errorf("%s: %v", environment, why) })
	agent := g.Join(g.Enrol("prod", "a1"))
	stop, err := publisher.AnswerProofs(func(environment, name string, question []byte) ([]byte, string) {
		return []byte(environment + "/" + name + " asks " + string(question)), "signed"
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	bustest.Eventually(t, "an answer", func() bool {
		answer, signature, err := agent.AskProof(bustest.Context(t), "prod", "a1", []byte("why"))
		if err == nil && (string(answer) != "prod/a1 asks why" || signature != "signed") {
			t.Fatalf("%q, %q", answer, signature)
		}
		return err == nil
	})
	brief, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if answer, _, err := agent.AskProof(brief, "other", "a1", []byte("why")); err == nil {
		t.Errorf("it asks under another's name, and is told %q", answer)
	}
}

// Whoever asks chooses where the answer goes, and the publisher may write anywhere.
func TestAnAnswerToAQuestionGoesToAnInboxOnly(t *testing.T) {
	server, conn := bustest.Ready(t)
	var asked atomic.Int64
	stop, err := conn.AnswerProofs(func(string, string, []byte) ([]byte, string) { asked.Add(1); return []byte("answer"), "signed" })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if _, err := conn.LedgerEnd(bustest.Context(t)); err != nil { // asked after that: now the server knows who answers
		t.Fatal(err)
	}
	nc, err := nats.Connect(server.ClientURL(), nats.Timeout(bustest.Deadline))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	heard := make(chan *nats.Msg, 100)
	if _, err := nc.ChanSubscribe(">", heard); err != nil {
		t.Fatal(err)
	}
	for _, reply := range []string{events.SubjectLedger, events.ReleaseSubject("prod"), events.LiveSubject("prod"), events.AckSubject("prod", "a1"), "$JS.API.STREAM.INFO.LEDGER"} {
		if err := nc.PublishRequest(events.ProofSubject("prod", "a1"), reply, []byte("q")); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.PublishRequest(events.ProofSubject("prod", "a1"), "_INBOX_last.1", []byte("q")); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case m := <-heard:
			switch {
			case string(m.Data) != "answer":
			case m.Subject == "_INBOX_last.1":
				if n := asked.Load(); n != 1 {
					t.Errorf("%d questions were looked at, want the one that can be answered", n)
				}
				return
			default:
				t.Errorf("an answer went to %s", m.Subject)
			}
		case <-bustest.Context(t).Done():
			t.Fatal("the last question is not answered")
		}
	}
}
