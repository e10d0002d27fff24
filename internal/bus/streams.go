package bus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	ledgerIDKey      = "lockstep.ledger" // metadata of LEDGER
	ackRetention     = 14 * 24 * time.Hour
	releaseConsumers = 100_000 // agents catching up at once; the server's default is 1,000
	defaultLeaseTTL  = 5 * time.Second
	minPayload       = 1 << 20     // an entry of the ledger with its headers
	raiseTimeout     = time.Minute // for new replicas of the ledger to get all of it
)

// StreamOptions of EnsureStreams.
type StreamOptions struct {
	LedgerID string        // the ledger that must be there; empty: whichever is there, and a new one if there is none
	Found    bool          // where there is no ledger, make the one with LedgerID
	Replicas int           // at least so many; 0: as many as LEDGER has, and without a LEDGER 3 in a cluster, otherwise 1
	LeaseTTL time.Duration // how long a dead publisher holds the lease; 0: 5 s; at least 100 ms
}

// A SettingError says that a stream is there but set differently: nobody may have changed it under us. Without a Stream it is the server
// that is set so that the bus cannot work.
type SettingError struct{ Stream, Setting, Want, Have string }

func (e *SettingError) Error() string {
	if e.Stream == "" {
		return fmt.Sprintf("the server's %s is %s, want at least %s: set it in the configuration of every server", e.Setting, e.Have, e.Want)
	}
	return fmt.Sprintf("stream %s: %s is %s, want %s: somebody changed it; set it back, or move the stream away and restart", e.Stream, e.Setting, e.Have, e.Want)
}

// EnsureStreams makes the streams that are missing, checks the settings of those that are there (a *SettingError names the first
// that differs), and returns the ledger's id. A ledger that had begun, whose id is given, is never made anew here: without a LEDGER the
// error is ErrLedgerChanged, once the other streams are there. A server that still deletes a stream lets another one with its name be
// made over the same files, which shows the old messages and then loses them. A LEDGER with fewer replicas than o demands gets them, and
// has them when EnsureStreams returns; the other streams are left with those that they have until Replicate.
func (c *Conn) EnsureStreams(ctx context.Context, o StreamOptions) (ledgerID string, err error) {
	if have := c.nc.MaxPayload(); have < minPayload {
		return "", &SettingError{"", "max_payload", strconv.Itoa(minPayload), strconv.FormatInt(have, 10)}
	}
	if c.nc.ConnectedClusterName() == "" && o.Replicas > 1 {
		return "", &SettingError{"", "cluster size", strconv.Itoa(o.Replicas), "1"}
	}
	if o.Replicas, err = c.replicas(ctx, o); err != nil {
		return "", err
	}
	var lost error
	for _, want := range streams(o) {
		ensure := c.ensureStream
		if want.Name == events.StreamLedger && o.LedgerID != "" && !o.Found {
			ensure = c.knownLedger
		}
		info, err := ensure(ctx, want)
		switch {
		case errors.Is(err, ErrLedgerChanged):
			lost = err
		case err != nil:
			return "", err
		case want.Name == events.StreamLedger:
			ledgerID = info.Config.Metadata[ledgerIDKey]
		}
	}
	if lost == nil && o.LedgerID != "" && ledgerID != o.LedgerID {
		return "", &SettingError{events.StreamLedger, "ledger id", o.LedgerID, ledgerID}
	}
	return ledgerID, errors.Join(lost, c.ensureLease(ctx, o))
}

// replicas is how many the streams are to have. A LEDGER with fewer gets them.
func (c *Conn) replicas(ctx context.Context, o StreamOptions) (int, error) {
	info, err := c.streamInfo(ctx, events.StreamLedger)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return cmp.Or(o.Replicas, c.usualReplicas()), nil
	case err != nil:
		return 0, err
	case o.Replicas <= info.Config.Replicas:
		return info.Config.Replicas, nil
	}
	if err := c.raise(ctx, info.Config, o.Replicas); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, raiseTimeout)
	defer cancel()
	for {
		info, err := c.streamInfo(ctx, events.StreamLedger)
		if err == nil && whole(info) {
			return o.Replicas, nil
		}
		if pause(ctx, jitter(reopenDelay)) != nil {
			return 0, fmt.Errorf("%w: LEDGER was given %d replicas, and they did not get all of it within %s: look at the servers", ErrUnavailable, o.Replicas, raiseTimeout)
		}
	}
}

// usualReplicas is how many new streams have: enough to survive a server of a cluster.
func (c *Conn) usualReplicas() int {
	if c.nc.ConnectedClusterName() != "" {
		return durableReplicas
	}
	return 1
}

// raise gives a stream more replicas.
func (c *Conn) raise(ctx context.Context, config jetstream.StreamConfig, replicas int) error {
	bounded, cancel := c.bounded(ctx)
	defer cancel()
	config.Replicas = replicas
	if _, err := c.js.UpdateStream(bounded, config); err != nil {
		return c.failed(ctx, fmt.Sprintf("give %s %d replicas", config.Name, replicas), err)
	}
	return nil
}

// whole says whether every replica of a stream has all of it.
func whole(info *jetstream.StreamInfo) bool {
	if info.Cluster == nil || len(info.Cluster.Replicas) != info.Config.Replicas-1 {
		return false
	}
	return !slices.ContainsFunc(info.Cluster.Replicas, func(r *jetstream.PeerInfo) bool { return r.Offline || !r.Current })
}

// Replicate gives the other streams as many replicas as LEDGER has, where they have fewer, and returns their names. What is not fsynced
// on one node cannot be replicated by an update: it is made anew and empty. So the ledger is to be compared with what is in them before.
// RELEASES is sent again from the ledger; acks that are not in the ledger yet are lost, and the agents' next beats say the same.
func (c *Conn) Replicate(ctx context.Context) (changed []string, err error) {
	ledger, err := c.streamInfo(ctx, events.StreamLedger)
	if err != nil || ledger.Config.Replicas == 1 {
		return nil, err
	}
	for _, want := range append(streams(StreamOptions{Replicas: ledger.Config.Replicas}), jetstream.StreamConfig{Name: "KV_" + events.BucketLease}, jetstream.StreamConfig{Name: "KV_" + events.BucketAlarms}) {
		info, err := c.streamInfo(ctx, want.Name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			continue // EnsureStreams makes it
		case err != nil:
			return changed, err
		case info.Config.Replicas >= ledger.Config.Replicas:
			continue
		case info.Config.PersistMode == jetstream.AsyncPersistMode:
			err = c.remake(ctx, want)
		default:
			err = c.raise(ctx, info.Config, ledger.Config.Replicas)
		}
		if err != nil {
			return changed, err
		}
		changed = append(changed, want.Name)
	}
	return changed, nil
}

// remake makes a stream anew, and empty.
func (c *Conn) remake(ctx context.Context, want jetstream.StreamConfig) error {
	bounded, cancel := c.bounded(ctx)
	err := c.js.DeleteStream(bounded, want.Name)
	cancel()
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return c.failed(ctx, "delete "+want.Name, err)
	}
	_, err = c.ensureStream(ctx, want)
	return err
}

func streams(o StreamOptions) []jetstream.StreamConfig {
	base := jetstream.StreamConfig{
		Storage: jetstream.FileStorage, Replicas: max(o.Replicas, 1),
		MaxConsumers: -1, MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1,
	}
	derived := base // can be sent again, so it need not be fsynced; a cluster refuses that
	if base.Replicas == 1 {
		derived.PersistMode = jetstream.AsyncPersistMode
	}

	ledger := base
	ledger.Name, ledger.Subjects = events.StreamLedger, []string{events.SubjectLedger}
	ledger.DenyDelete, ledger.DenyPurge = true, true
	ledger.Metadata = map[string]string{ledgerIDKey: o.LedgerID}
	if o.LedgerID == "" {
		ledger.Metadata[ledgerIDKey] = uuid.NewString()
	}

	releases := derived
	releases.Name, releases.Subjects = events.StreamReleases, []string{events.SubjectReleases}
	releases.AllowDirect, releases.Discard, releases.MaxConsumers = true, jetstream.DiscardNew, releaseConsumers
	releases.RePublish = &jetstream.RePublish{Source: events.SubjectReleases, Destination: events.LivePattern()}

	acks := derived
	acks.Name, acks.Subjects = events.StreamAcks, []string{events.SubjectAcks, events.SubjectDrifts}
	acks.MaxAge = ackRetention

	beats := derived
	beats.Name, beats.Subjects = events.StreamBeats, []string{events.SubjectBeats}
	beats.MaxMsgsPerSubject = 1

	return []jetstream.StreamConfig{ledger, releases, acks, beats}
}

func (c *Conn) ensureStream(ctx context.Context, want jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	info, err := c.streamInfo(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		bounded, cancel := c.bounded(ctx)
		defer cancel()
		s, err := c.js.CreateStream(bounded, want)
		switch {
		case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse): // another publisher was faster, with another ledger id
			info, err = c.streamInfo(ctx, want.Name)
		case err == nil:
			info = s.CachedInfo()
		}
		if err != nil {
			return nil, c.failed(ctx, "make stream "+want.Name, err)
		}
	} else if err != nil {
		return nil, err
	}
	if info.State.LastSeq > 0 && info.State.LastTime.Before(info.Created) {
		return nil, c.overDeletedFiles(ctx, want.Name)
	}
	return info, checkStream(want, info)
}

// overDeletedFiles deals with a stream that holds messages from before it was made: the server was still deleting one of the same name,
// whose files it took for its own and loses now. What is derived is deleted to be made again; a ledger is left to its repair.
func (c *Conn) overDeletedFiles(ctx context.Context, name string) error {
	if name == events.StreamLedger {
		return fmt.Errorf("%w: %s was made while the server deleted another one: repair the ledger", ErrLedgerChanged, name)
	}
	bounded, cancel := c.bounded(ctx)
	defer cancel()
	if err := c.js.DeleteStream(bounded, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return c.failed(ctx, "delete "+name, err)
	}
	return fmt.Errorf("make stream %s: %w: the server is still deleting the one before", name, ErrUnavailable)
}

// knownLedger is LEDGER as it is; it is never made here.
func (c *Conn) knownLedger(ctx context.Context, want jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	info, err := c.streamInfo(ctx, want.Name)
	if err != nil {
		return nil, ledgerMissing(err)
	}
	return info, checkStream(want, info)
}

func checkStream(want jetstream.StreamConfig, info *jetstream.StreamInfo) error {
	if want.Name == events.StreamLedger && info.Config.Metadata[ledgerIDKey] == "" {
		return &SettingError{want.Name, "ledger id", "a UUID in the metadata", "none"}
	}
	return compareSettings(withReplicas(want, info.Config), info.Config)
}

// withReplicas lets a stream that can be made anew have fewer replicas than it should, until Replicate.
func withReplicas(want, have jetstream.StreamConfig) jetstream.StreamConfig {
	if want.Name != events.StreamLedger && have.Replicas < want.Replicas {
		want.Replicas, want.PersistMode = have.Replicas, have.PersistMode
	}
	return want
}

// notCompared are settings that mean nothing for what the streams promise, or that the server fills in.
var notCompared = []string{"description", "metadata", "duplicate_window", "placement"}

// compareSettings compares every other setting under the name that the server and its tools give it, so that one which is
// unknown here cannot be changed unnoticed either.
func compareSettings(want, have jetstream.StreamConfig) error {
	w, err := settings(want)
	if err != nil {
		return err
	}
	h, err := settings(have)
	if err != nil {
		return err
	}
	for name, value := range h {
		if _, set := w[name]; !set && (value == "0" || value == "false" || value == `""` || value == "{}" || value == "null") {
			delete(h, name)
		}
	}
	names := slices.Concat(slices.Collect(maps.Keys(w)), slices.Collect(maps.Keys(h)))
	slices.Sort(names)
	for _, name := range names {
		if w[name] != h[name] && !slices.Contains(notCompared, name) {
			return &SettingError{want.Name, name, cmp.Or(w[name], "not set"), cmp.Or(h[name], "not set")}
		}
	}
	return nil
}

func settings(cfg jetstream.StreamConfig) (map[string]string, error) {
	b, err := json.Marshal(cfg)
	if err != nil {
		return nil, fmt.Errorf("settings of stream %s: %w", cfg.Name, err)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, fmt.Errorf("settings of stream %s: %w", cfg.Name, err)
	}
	out := make(map[string]string, len(raw))
	for name, value := range raw {
		out[name] = string(value)
	}
	return out, nil
}

// A Notice says that a stream may not be what it was: check settings and contents.
type Notice struct {
	Stream string // empty where the connection came back, after which anything may have happened to any stream
	Action string // what the server calls it: created, deleted, updated, restore_complete, …; or reconnected
}

var watched = []string{events.StreamLedger, events.StreamReleases, events.StreamAcks, events.StreamBeats}

// Watch tells fn of what happens to Lockstep's streams from its return until stop is called. Fn must not block.
func (c *Conn) Watch(fn func(Notice)) (stop func(), err error) {
	const prefix = "$JS.EVENT.ADVISORY.STREAM."
	sub, err := c.nc.Subscribe(prefix+"*.*", func(m *nats.Msg) {
		action, stream, _ := strings.Cut(strings.TrimPrefix(m.Subject, prefix), ".")
		if !slices.Contains(watched, stream) {
			return
		}
		fn(Notice{Stream: stream, Action: strings.ToLower(action)})
	})
	if err != nil {
		return nil, fmt.Errorf("watch the streams: %w: %w", ErrUnavailable, err)
	}
	// What happens from here on is told, whoever does it over whichever connection; where the link breaks, the reconnect is told.
	asked, answered := c.bounded(context.Background())
	_ = c.nc.FlushWithContext(asked)
	answered()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			link, err := c.connected(ctx)
			if err != nil {
				return
			}
			select {
			case <-link.down.Done():
			case <-ctx.Done():
				return
			}
			if _, err := c.connected(ctx); err == nil {
				fn(Notice{Action: "reconnected"})
			}
		}
	}()
	return func() {
		_ = sub.Unsubscribe() // fails only where the connection is closed
		cancel()
		<-done
	}, nil
}
