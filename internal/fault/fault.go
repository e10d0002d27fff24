// Package fault names every durable step of publisher and agent, so that a test can end the program before it, in the middle of it,
// and after it.
//
// A step is written where it is done, around what it does; a nil Hook costs nothing and changes nothing. Only this package makes
// points, so that a test can compare them with those at which programs are killed: none is forgotten, and none is only a name. It
// injects nothing itself.
package fault

import (
	"fmt"
	"io"
)

// A Stage is how far a step has come.
type Stage string

// The stages of a step. Torn: half of its bytes are written, or the first of its parts is done.
const (
	Before Stage = "before"
	Torn   Stage = "torn"
	After  Stage = "after"
)

// A Point is one durable step of a program.
type Point struct {
	Program string // publisher or agent
	Name    string // what is done then, the same in tests and in what they print
	Whole   bool   // it has no middle: the system does it in one piece
}

func (p Point) String() string { return p.Program + ": " + p.Name }

// Stages are those that a point has.
func (p Point) Stages() []Stage {
	if p.Whole {
		return []Stage{Before, After}
	}
	return []Stage{Before, Torn, After}
}

// Of are all points of a program, in the order in which it comes to them first.
func Of(program string) (out []Point) {
	for _, p := range points {
		if p.Program == program {
			out = append(out, p)
		}
	}
	return out
}

var points []Point

func point(program, name string) Point {
	p := Point{Program: program, Name: name}
	points = append(points, p)
	return p
}

func whole(program, name string) Point {
	p := point(program, name)
	p.Whole = true
	points[len(points)-1] = p
	return p
}

// A Hook is told of every stage of every step. What it returns before a step or in its middle is the step's error; what it returns
// after it is nobody's.
type Hook func(Point, Stage) error

// At tells of one stage.
func (h Hook) At(p Point, s Stage) error {
	if h == nil {
		return nil
	}
	if err := h(p, s); err != nil && s != After {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	return nil
}

// Step does what a point names.
func (h Hook) Step(p Point, do func() error) error {
	if err := h.At(p, Before); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return h.At(p, After)
}

// Write writes b to w; torn, half of it is there.
func (h Hook) Write(p Point, w io.Writer, b []byte) error {
	if h == nil {
		_, err := w.Write(b)
		return err
	}
	return h.Step(p, func() error {
		half := len(b) / 2
		if _, err := w.Write(b[:half]); err != nil {
			return err
		}
		if err := h.At(p, Torn); err != nil {
			return err
		}
		_, err := w.Write(b[half:])
		return err
	})
}

// Parts does a step that has several parts, one after the other; torn, the first half of them is done.
func Parts[T any](h Hook, p Point, parts []T, do func(T) error) error {
	return h.Step(p, func() error {
		for i, part := range parts {
			if i > 0 && i == len(parts)/2 {
				if err := h.At(p, Torn); err != nil {
					return err
				}
			}
			if err := do(part); err != nil {
				return err
			}
		}
		return nil
	})
}
