package agent

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/keys"
)

// Options of an Agent.
type Options struct {
	Enrolment *keys.Enrolment   // who it is and whom it believes; required
	State     string            // directory of its durable state, made with mode 0700; required
	Router    *connector.Router // what it configures; required

	Secrets   Secrets       // what secret references may name; zero: nothing
	Step      bool          // every revision is applied by itself, never folded with the next
	Overwrite bool          // a first apply may overwrite values that differ; they are backed up
	Listen    string        // loopback address of health and metrics; empty: none
	MaxStale  time.Duration // not ready when stale for longer; 0: 2 minutes

	// InProcess is an embedded server to connect to, instead of the enrolment's addresses.
	InProcess interface{ InProcessConn() (net.Conn, error) }
	Registry  *prometheus.Registry // for its metrics; nil: one of its own
	Log       zerolog.Logger       // zero: silent
	Version   string               // of the program, for beats
	Intervals Intervals            // zero: the defaults
	Clock     func() time.Time     // what it says the time is; it decides nothing by it; nil: time.Now

	Fault fault.Hook // told of every durable step; for tests
}

// Intervals are how often what happens. Zero fields have their defaults.
type Intervals struct {
	Beat  time.Duration // between two beats, less up to a fifth; 10 s
	Pulse time.Duration // of the publisher, for telling silence; 15 s
	Check time.Duration // between two looks at the head; 30 s
	Retry time.Duration // before the first retry, doubling; 1 s
	Most  time.Duration // the longest wait before a retry; 2 min

	Reconnect time.Duration // in which all agents of a bus that was restarted come back to it; 2 s
}

func (o Options) withDefaults() (Options, error) {
	switch {
	case o.Enrolment == nil:
		return o, errors.New("agent options: Enrolment is missing")
	case o.State == "":
		return o, errors.New("agent options: State is missing")
	case o.Router == nil:
		return o, errors.New("agent options: Router is missing")
	case o.MaxStale < 0:
		return o, fmt.Errorf("agent options: MaxStale is %s", o.MaxStale)
	}
	if err := o.Secrets.Validate(); err != nil {
		return o, fmt.Errorf("agent options: Secrets: %w", err)
	}
	o.MaxStale = cmp.Or(o.MaxStale, 2*time.Minute)
	i := &o.Intervals
	i.Beat = cmp.Or(i.Beat, 10*time.Second)
	i.Pulse = cmp.Or(i.Pulse, 15*time.Second)
	i.Check = cmp.Or(i.Check, 30*time.Second)
	i.Retry = cmp.Or(i.Retry, time.Second)
	i.Most = cmp.Or(i.Most, 2*time.Minute)
	i.Reconnect = cmp.Or(i.Reconnect, 2*time.Second)
	o.Version = cmp.Or(o.Version, "devel")
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	o.Log = o.Log.With().Str("environment", o.Enrolment.Environment).Str("agent", o.Enrolment.Agent).Logger()
	return o, nil
}
