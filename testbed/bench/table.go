package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// side is one of two that take turns. Run does the work once and says how fast:
// one figure for each of the measures that the comparison is about.
type side struct {
	name string
	run  func() ([]float64, error)
}

// measure is one line of the table: which figure of the first side, and its goal.
type measure struct {
	what, goal, unit string
}

// table gathers lines and prints them as Markdown.
type table struct {
	progress io.Writer
	lines    []string
	raw      []string
}

// compare lets a and b take turns. The ratio is the median of the ratios of each
// turn, so that what slows the machine down for a while slows both sides. Where b
// has fewer figures than there are measures its last stands for the others.
func (t *table) compare(pairs int, measures []measure, a, b side) error {
	mine, other := make([][]float64, len(measures)), make([][]float64, len(measures))
	for range pairs {
		got, err := a.run()
		if err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		against, err := b.run()
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		for i := range measures {
			mine[i] = append(mine[i], got[i])
			other[i] = append(other[i], against[min(i, len(against)-1)])
		}
	}
	for i, m := range measures {
		ratios := make([]float64, pairs)
		for j := range ratios {
			ratios[j] = mine[i][j] / other[i][j]
		}
		t.add(m.what, figure(median(mine[i]))+" "+m.unit, figure(median(other[i]))+" "+m.unit+" "+b.name,
			fmt.Sprintf("%s (%s to %s)", figure(median(ratios)), figure(slices.Min(ratios)), figure(slices.Max(ratios))), m.goal)
		t.note("%s, %s: %s %s; %s %s", m.what, m.unit, a.name, figures(mine[i]), b.name, figures(other[i]))
	}
	return nil
}

// alone adds figures that have no other side.
func (t *table) alone(m measure, got []float64) {
	t.add(m.what, figure(median(got))+" "+m.unit, "", "", m.goal)
	t.note("%s, %s: %s", m.what, m.unit, figures(got))
}

func (t *table) add(cells ...string) {
	t.lines = append(t.lines, "| "+strings.Join(cells, " | ")+" |")
	fmt.Fprintln(t.progress, t.lines[len(t.lines)-1])
}

func (t *table) note(format string, args ...any) {
	t.raw = append(t.raw, fmt.Sprintf(format, args...))
}

func (t *table) print(w io.Writer) {
	fmt.Fprintf(w, "\n| what | Weir, median | other side, median | ratio, median (least to greatest) | goal |\n|---|---|---|---|---|\n%s\n",
		strings.Join(t.lines, "\n"))
	fmt.Fprintf(w, "\nAll figures, in the order they were taken:\n\n%s\n", strings.Join(t.raw, "\n"))
}

func median(xs []float64) float64 {
	s := slices.Sorted(slices.Values(xs))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// figure keeps three digits that mean something.
func figure(x float64) string {
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	case x >= 0.1 || x == 0:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.4f", x)
}

func figures(xs []float64) string {
	out := make([]string, len(xs))
	for i, x := range xs {
		out[i] = figure(x)
	}
	return strings.Join(out, " ")
}

// mib is how many MiB a second n bytes since start are.
func mib(n int, start time.Time) float64 {
	return float64(n) / (1 << 20) / time.Since(start).Seconds()
}
