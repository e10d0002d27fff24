package bus_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// ledgerOf is what one of three replicas says of a ledger that ends at 3 as far as it knows.
func ledgerOf(leader string, others ...*jetstream.PeerInfo) *jetstream.StreamInfo {
	return &jetstream.StreamInfo{
		Config:  jetstream.StreamConfig{Name: events.StreamLedger, Replicas: 3, Metadata: map[string]string{"lockstep.ledger": "id"}},
		State:   jetstream.StreamState{FirstSeq: 1, LastSeq: 3, Msgs: 3},
		Cluster: &jetstream.ClusterInfo{Leader: leader, Replicas: others},
	}
}

func peer(name string, active time.Duration) *jetstream.PeerInfo {
	return &jetstream.PeerInfo{Name: name, Current: true, Active: active}
}

// TestOnlyALeaderThatOthersFollowIsBelieved: what a server that is cut off says of the ledger's end is old.
func TestOnlyALeaderThatOthersFollowIsBelieved(t *testing.T) {
	offline := peer("c", time.Second)
	offline.Offline = true
	one := ledgerOf("")
	one.Config.Replicas = 1
	for name, says := range map[string]struct {
		info     *jetstream.StreamInfo
		believed bool
	}{
		"both others follow":                {ledgerOf("a", peer("b", time.Second), peer("c", 10*time.Millisecond)), true},
		"one other follows":                 {ledgerOf("a", peer("b", time.Second), peer("c", 5*time.Second)), true},
		"nobody was heard lately":           {ledgerOf("a", peer("b", 3*time.Second), peer("c", 3*time.Second)), false},
		"nobody was ever heard":             {ledgerOf("a", peer("b", 0), peer("c", 0)), false},
		"the one that was heard is offline": {ledgerOf("a", peer("b", 5*time.Second), offline), false},
		"there is no leader":                {ledgerOf("", peer("a", time.Second), peer("b", time.Second), peer("c", time.Second)), false},
		"another one leads":                 {ledgerOf("b", peer("b", time.Second), peer("c", time.Second)), false},
		"there are no others":               {one, true},
	} {
		if err := bus.Led(says.info); (err == nil) != says.believed || err != nil && !errors.Is(err, bus.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWhoIsNotBelievedIsAskedAgain: an election takes seconds, and the answer then is another one.
func TestWhoIsNotBelievedIsAskedAgain(t *testing.T) {
	s := bustest.StartBare(t, 0)
	var asked int
	s.Answers("$JS.API.STREAM.INFO.LEDGER", func() any {
		if asked++; asked == 1 {
			return ledgerOf("", peer("a", time.Second), peer("b", time.Second), peer("c", time.Second))
		}
		elected := ledgerOf("b", peer("a", time.Second), peer("c", time.Second))
		elected.State.LastSeq, elected.State.Msgs = 4, 4
		return elected
	})
	if end, err := bustest.Connect(t, s.URL()).LedgerEnd(t.Context()); err != nil || end.Last != 4 {
		t.Errorf("%+v (%v)", end, err)
	}
}

// TestAReplicaThatIsBehindIsNoHole: a reader is served by any replica; what that one lacks, the leader may have.
func TestAReplicaThatIsBehindIsNoHole(t *testing.T) {
	for name, leader := range map[string]struct {
		answer map[string]any
		want   error
	}{
		"the leader has more":     {map[string]any{"message": map[string]any{"seq": 1, "data": []byte("entry 1"), "time": time.Now()}}, bus.ErrUnavailable},
		"the leader has no more":  {map[string]any{"error": jetstream.APIError{Code: 404, ErrorCode: jetstream.JSErrCodeMessageNotFound}}, bus.ErrHole},
		"the leader has new ones": {map[string]any{"message": map[string]any{"seq": 4, "data": []byte("entry 4"), "time": time.Now()}}, bus.ErrHole},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := bustest.StartBare(t, 0)
			s.Answers("$JS.API.STREAM.INFO.LEDGER", func() any { return ledgerOf("a", peer("b", time.Second), peer("c", time.Second)) })
			s.Answers("$JS.API.CONSUMER.CREATE.LEDGER.>", func() any { return jetstream.ConsumerInfo{Stream: events.StreamLedger, Name: "reader"} })
			s.Answers("$JS.API.STREAM.MSG.GET.LEDGER", func() any { return leader.answer })
			err := bustest.Connect(t, s.URL()).ReadLedger(t.Context(), 1, func(bus.Stored) error { return errors.New("nothing was sent") })
			if !errors.Is(err, leader.want) {
				t.Errorf("ended with %v, want %v", err, leader.want)
			}
		})
	}
}

func TestAServerThatTakesNoWholeEntryIsNamed(t *testing.T) {
	s := bustest.StartBare(t, 64<<10)
	_, err := bustest.Connect(t, s.URL()).EnsureStreams(t.Context(), bus.StreamOptions{})
	if setting, ok := errors.AsType[*bus.SettingError](err); !ok || setting.Setting != "max_payload" || setting.Have != "65536" {
		t.Errorf("ended with %v", err)
	}
}

// TestWhatCameFirstInAClusterIsWaitedFor: the leader refuses an append because of one that is not stored yet, and may never be. That is no
// ledger that was cut.
func TestWhatCameFirstInAClusterIsWaitedFor(t *testing.T) {
	none := map[string]any{"error": jetstream.APIError{Code: 404, ErrorCode: jetstream.JSErrCodeMessageNotFound}}
	for name, stored := range map[string]struct {
		first int // the look that finds it
		want  error
	}{"a moment later": {3, bus.ErrConflict}, "never": {1 << 20, bus.ErrUnavailable}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := bustest.StartBare(t, 0)
			s.Answers(events.SubjectLedger, func() any {
				return map[string]any{"error": jetstream.APIError{Code: 400, ErrorCode: jetstream.JSErrCodeStreamWrongLastSequence}}
			})
			var looks int
			s.Answers("$JS.API.STREAM.MSG.GET.LEDGER", func() any {
				if looks++; looks < stored.first {
					return none
				}
				return map[string]any{"message": map[string]any{"seq": 4, "data": []byte("another's"), "time": time.Now()}}
			})
			if _, err := bustest.Connect(t, s.URL()).Append(t.Context(), []byte("ours"), 3); !errors.Is(err, stored.want) {
				t.Errorf("ended with %v, want %v", err, stored.want)
			}
		})
	}
}

func TestReplicasNeedACluster(t *testing.T) {
	_, c := bustest.Ready(t)
	_, err := c.EnsureStreams(t.Context(), bus.StreamOptions{Replicas: 3, LeaseTTL: bustest.LeaseTTL})
	if setting, ok := errors.AsType[*bus.SettingError](err); !ok || setting.Setting != "cluster size" {
		t.Errorf("ended with %v", err)
	}
}

// TestAServerThatDoesNotAnswerIsLeft: it keeps its clients though it is cut off.
func TestAServerThatDoesNotAnswerIsLeft(t *testing.T) {
	servers := []*bustest.Bare{bustest.StartBare(t, 0), bustest.StartBare(t, 0)}
	c := bustest.Connect(t, servers[0].URL()+","+servers[1].URL())
	here, there := servers[0], servers[1]
	if there.Clients() == 1 {
		here, there = there, here
	}
	if _, err := c.LedgerEnd(t.Context()); !errors.Is(err, bus.ErrUnavailable) {
		t.Fatal(err)
	}
	if here.Clients() != 1 {
		t.Error("left at the first question that was not answered")
	}
	c.PretendUnanswered()
	if _, err := c.LedgerEnd(t.Context()); !errors.Is(err, bus.ErrUnavailable) {
		t.Fatal(err)
	}
	bustest.Eventually(t, "the other server has the client", func() bool { return there.Clients() == 1 && here.Clients() == 0 })
	if bustest.Connect(t, here.URL()).Move() {
		t.Error("moved where there is nowhere to go")
	}
}
