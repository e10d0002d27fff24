package dashboard_test

import (
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
)

type (
	reports = fleet.Reports
	asOf    = time.Time
)
