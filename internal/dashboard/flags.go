package dashboard

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// mostColumns is how many environments stand side by side; more are gathered by stage and region.
const mostColumns = 12

type flagsPage struct {
	Filter  string
	Columns []flagColumn
	Flags   []flagLine
}

// A flagColumn is an environment, or a stage and region.
type flagColumn struct {
	Name        string
	Environment bool
	of          []int // cells of a row
}

type flagLine struct {
	fleet.FlagRow
	Cells [][]flagShare // by column
}

// A flagShare is what some environments of a column have.
type flagShare struct {
	fleet.FlagCell
	Count int
}

func (d *dashboard) flags(r *http.Request, p *page) (err error) {
	p.Title, p.Section = "Flags", "flags"
	of := &flagsPage{Filter: strings.TrimSpace(r.URL.Query().Get("filter"))}
	p.Body = of
	d.Backend.Read(func(s *ledger.State, reports fleet.Reports, asOf time.Time) {
		p.AsOf = asOf
		var matrix fleet.FlagMatrix
		if matrix, err = fleet.Flags(s, reports, labelled(of.Filter), asOf); err != nil {
			return
		}
		for i, name := range matrix.Environments {
			column := flagColumn{Name: name, Environment: true}
			if len(matrix.Environments) > mostColumns {
				column = flagColumn{Name: groupOf(fleet.Environment{Labels: s.Environments[name].Labels})}
			}
			of.place(column, i)
		}
		slices.SortStableFunc(of.Columns, func(a, b flagColumn) int { return strings.Compare(a.Name, b.Name) })
		for _, row := range matrix.Flags {
			of.Flags = append(of.Flags, of.line(row))
		}
	})
	return err
}

func (f *flagsPage) place(c flagColumn, cell int) {
	i := slices.IndexFunc(f.Columns, func(known flagColumn) bool { return known.Name == c.Name })
	if i < 0 {
		i = len(f.Columns)
		f.Columns = append(f.Columns, c)
	}
	f.Columns[i].of = append(f.Columns[i].of, cell)
}

func (f *flagsPage) line(row fleet.FlagRow) flagLine {
	out := flagLine{FlagRow: row}
	for _, column := range f.Columns {
		var shares []flagShare
		for _, i := range column.of {
			cell := row.Cells[i]
			at := slices.IndexFunc(shares, func(s flagShare) bool { return s.Same(cell) && s.Applied == cell.Applied })
			if at < 0 {
				at = len(shares)
				shares = append(shares, flagShare{FlagCell: cell})
			}
			shares[at].Count++
		}
		slices.SortStableFunc(shares, func(a, b flagShare) int { return b.Count - a.Count })
		out.Cells = append(out.Cells, shares)
	}
	return out
}
