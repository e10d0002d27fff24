package registry

// A Contrast is a path at which a resource differs between two environments. An origin that is nil has nothing there.
type Contrast struct {
	Path string  `json:"path"` // JSON pointer into the value
	A    *Origin `json:"a,omitempty"`
	B    *Origin `json:"b,omitempty"`
}

// Compare is where the origins of a resource's leaves differ in their values, ordered by path.
func Compare(a, b []Origin) []Contrast {
	var out []Contrast
	for len(a) > 0 || len(b) > 0 {
		order := 0
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		default:
			order = comparePaths(a[0].Path, b[0].Path)
		}
		switch {
		case order < 0:
			out, a = append(out, Contrast{Path: a[0].Path, A: &a[0]}), a[1:]
		case order > 0:
			out, b = append(out, Contrast{Path: b[0].Path, B: &b[0]}), b[1:]
		default:
			if string(a[0].Value) != string(b[0].Value) {
				out = append(out, Contrast{Path: a[0].Path, A: &a[0], B: &b[0]})
			}
			a, b = a[1:], b[1:]
		}
	}
	return out
}

// Flat is a value taken apart into leaves that all come from one place.
func (o Origin) Flat() []Origin {
	var out []Origin
	for _, l := range (&Quick{Value: o.Value}).leaves() {
		leaf := o
		leaf.Path, leaf.Value = o.Path+l.Path, l.Value
		out = append(out, leaf)
	}
	return out
}
