package store

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// What was written is read as it was; what was cut short is refused or read as something, and does not end the program.
func TestRecordsAreReadAsTheyWereWritten(t *testing.T) {
	digests := rapid.Custom(func(t *rapid.T) events.Digest { return events.Sum([]byte(rapid.String().Draw(t, "of"))) })
	rapid.Check(t, func(t *rapid.T) {
		want := Record{
			Revision: rapid.Uint64().Draw(t, "revision"), Kind: events.ReleaseKind(rapid.String().Draw(t, "kind")), Change: rapid.String().Draw(t, "change"),
			Digest: digests.Draw(t, "digest"), Inverse: digests.Draw(t, "inverse"), Entry: rapid.Uint64().Draw(t, "entry"),
			Chain: digests.Draw(t, "chain"), State: digests.Draw(t, "state"), At: time.UnixMicro(rapid.Int64().Draw(t, "at")).UTC(),
		}
		b := want.encode()
		have, err := decodeRecord(want.Revision, b)
		if err != nil || have != want {
			t.Fatalf("%v\nhave %+v\nwant %+v", err, have, want)
		}
		_, _ = decodeRecord(1, b[:rapid.IntRange(0, len(b)).Draw(t, "cut")])
		_, _ = decodeRecord(1, rapid.SliceOf(rapid.Byte()).Draw(t, "anything"))
	})
}
