package api

import (
	"context"
	"io"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/notify"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Backend is what the API serves: a publisher, or a ledger in memory. Errors are *ledger.Error where something is refused or
// not there, and *UnavailableError where the publisher cannot do it now and could later.
type Backend interface {
	// Do decides a command and appends its entry; with dryRun it only decides. A command that was carried out before gets its
	// first answer again, with Again set.
	Do(ctx context.Context, c ledger.Command, dryRun bool) (ledger.Outcome, error)
	// Read calls fn with what is known now; fn must not keep or change it.
	Read(fn func(s *ledger.State, r fleet.Reports, asOf time.Time))
	// Fleet is where every environment stands now.
	Fleet() fleet.View
	// BusURL is where agents reach the bus: one or more NATS addresses, separated by commas.
	BusURL() string
	// IssuesCredentials says whether Credentials has any.
	IssuesCredentials() bool
	// Credentials are what an enrolled agent shows the bus beside its key: a user's JWT; empty where the bus wants none, or its own.
	Credentials(environment, agent, key string) (string, error)
	// Verify reads the whole ledger from the bus again and derives every release again.
	Verify(ctx context.Context) (Verification, error)
	// Export writes the whole ledger and what the release stream holds, as internal/audit reads it. After an error it has no end.
	Export(ctx context.Context, w io.Writer) error
	// Doctor looks at everything that this publisher needs.
	Doctor(ctx context.Context) []Check
	// Alarms are what the publisher tells of what is wrong; a *ledger.Error where nobody is told of anything.
	Alarms() (notify.Overview, error)
}

// A Verification is what reading the whole ledger again found.
type Verification struct {
	Ledger   string           `json:"ledger"`
	OK       bool             `json:"ok"`
	Tip      events.LedgerTip `json:"tip"`      // newest entry that is as it should be
	Releases int              `json:"releases"` // derived again, each with the digest that the ledger recorded
	Message  string           `json:"message"`  // what is wrong, or that all is well
	Losses   []fleet.Loss     `json:"losses,omitempty"`
	Next     string           `json:"next,omitempty"`
	Seconds  float64          `json:"seconds"`
}

// A Check is one thing that doctor looked at.
type Check struct {
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Message string `json:"message"`
	Next    string `json:"next,omitempty"` // what to do when it is not ok
}

// Pins are what an enrolment pins.
type Pins struct {
	Ledger   string        `json:"ledger"`
	Document events.Trust  `json:"document"` // the newest
	Digest   events.Digest `json:"digest"`   // of the document
	BusURL   string        `json:"busURL"`
	// Credentials says that the publisher issues the bus's credentials.
	Credentials bool  `json:"credentials,omitempty"`
	Head        *Head `json:"head,omitempty"` // of the environment that was asked for
}

// AgentCredentials are what an agent shows the bus beside its key.
type AgentCredentials struct {
	JWT string `json:"jwt,omitempty"` // empty where the bus wants none, or credentials of its own
}

// A Head is an environment's newest revision and its chain digest.
type Head struct {
	Environment string        `json:"environment"`
	Revision    uint64        `json:"revision"`
	Chain       events.Digest `json:"chain"`
}
