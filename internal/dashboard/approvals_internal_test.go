package dashboard

import (
	"fmt"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/ledger"
)

func TestWhatIsLackingAlikeIsSaidOnce(t *testing.T) {
	could := []string{"anna", "ben"}
	got := fmt.Sprint(needs([]ledger.Demand{
		{Environment: "eu", Of: "the trust document", Lacking: 1, Could: could}, {Environment: "eu", Of: "the environment", Lacking: 1, Could: could},
		{Environment: "us", Lacking: 1, Could: could}, {Environment: "us", Lacking: 2, Could: could}, {Environment: "ap", Could: could},
	}))
	if want := "[{[eu us] 1 [anna ben]} {[us] 2 [anna ben]}]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
