package dashboard

import (
	"net/http"
	"time"
)

// MaxStreams is how many may watch at once.
const MaxStreams = maxStreams

// NewPaused is New with another length of a snapshot.
func NewPaused(o Options, pause time.Duration) http.Handler { return newDashboard(o, pause) }
