package bus

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

func sign(chain events.Digest) string {
	mac := hmac.New(sha256.New, []byte("key"))
	mac.Write(chain[:])
	return string(mac.Sum(nil))
}

func testRules(rejected *int) rules {
	return rules{
		environment: "prod",
		verify: func(chain events.Digest, signature string) error {
			if signature != sign(chain) {
				return errors.New("not signed")
			}
			return nil
		},
		reject: func(Rejection) { *rejected++ },
	}
}

func testRelease(at Position, text string) Stored {
	payload := fmt.Appendf(nil, `{"type":%q,"data":{"environment":"prod","revision":%d,"previous":%q,"text":%q}}`,
		events.TypeReleasePublished, at.Revision+1, at.Chain, text)
	return Stored{Payload: payload, Signature: sign(events.Chain(at.Chain, payload))}
}

// Whatever lies in the stream, a run is made of the publisher's releases, in order, from the position on; and what can follow the
// position is in it, as long as nothing authentic contradicts it.
func TestRunIsThePublishersChainWhateverTheBusHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "releases")
		start := Position{Chain: events.ChainStart("ledger", "prod")}
		at, chain, genuine := start, []Position{start}, []Stored{}
		for i := range n {
			s := testRelease(at, fmt.Sprint(i))
			at = Position{at.Revision + 1, events.Chain(at.Chain, s.Payload), 0}
			chain, genuine = append(chain, at), append(genuine, s)
		}
		from := rapid.IntRange(0, n-1).Draw(t, "position")

		rejected := 0
		r := testRules(&rejected)
		var messages []candidate
		reached, gap := from, false  // what a correct reader makes of the messages, one by one
		whole, signed := true, false // they are one chain; the last of them is signed
		for range rapid.IntRange(0, 20).Draw(t, "messages") {
			s := genuine[rapid.IntRange(0, n-1).Draw(t, "which")]
			if rapid.Bool().Draw(t, "in order") {
				s = genuine[min(reached, n-1)]
			}
			_, revision, _, _ := events.PeekRelease(s.Payload)
			what := rapid.IntRange(0, 4).Draw(t, "what")
			whole = whole && revision == uint64(from+len(messages)+1) && what != 1
			signed = what != 0
			switch what {
			case 0:
				s.Signature = "another's"
			case 1:
				s.Payload = append([]byte{' '}, s.Payload...)
			default:
				switch {
				case gap:
				case revision == uint64(reached)+1:
					reached++
				case revision > uint64(reached)+1:
					gap = true
				}
			}
			c, ok := r.open(s)
			if !ok {
				t.Fatal("not opened")
			}
			messages = append(messages, c)
		}
		if whole && signed { // one signature at the end speaks for all
			reached, gap = from+len(messages), false
		}

		run, missing, err := r.authenticate(chain[from], messages)
		if err != nil {
			t.Fatalf("a fork where there is none: %v", err)
		}
		for i, release := range run {
			if want := chain[from+i+1]; release.Revision != want.Revision || release.Chain != want.Chain {
				t.Fatalf("release %d of the run is revision %d, want %d", i, release.Revision, want.Revision)
			}
		}
		if len(run) != reached-from || (missing > 0) != gap {
			t.Fatalf("run of %d, gap %d; want %d, gap %t", len(run), missing, reached-from, gap)
		}
	})
}

func FuzzWhatIsNotSignedIsNeverAccepted(f *testing.F) {
	start := Position{Chain: events.ChainStart("ledger", "prod")}
	genuine := testRelease(start, "text")
	f.Add(genuine.Payload, genuine.Signature)
	f.Add([]byte(`{"type":"dev.lockstep.release.published.v1","data":{"environment":"prod","revision":2}}`), "")
	f.Add([]byte("{"), "signature")
	f.Fuzz(func(t *testing.T, payload []byte, signature string) {
		rejected := 0
		r := testRules(&rejected)
		v := rejectedOr(&r, start, Stored{Payload: payload, Signature: signature})
		if signed := string(payload) == string(genuine.Payload) && signature == genuine.Signature; signed != (v == next) || signed == (rejected == 1) {
			t.Errorf("verdict %d, %d rejections of %q", v, rejected, payload)
		}
	})
}

func rejectedOr(r *rules, at Position, s Stored) verdict {
	c, ok := r.open(s)
	if !ok {
		return rejected
	}
	return r.judge(at, c)
}
