package firmwareconfig

// nearest is the candidate most like name, or "" when none is like it: more than
// a third of its letters would have to change.
func nearest(name string, candidates []string) string {
	best, bestDistance := "", max(2, len(name)/3)+1
	for _, c := range candidates {
		if d := distance(name, c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// maxNameLen bounds the quadratic comparison below; no key is as long.
const maxNameLen = 64

// distance counts the letters to insert, delete, replace or swap with their
// neighbour (optimal string alignment): swaps are the commonest slip of a typist.
func distance(a, b string) int {
	if len(a) > maxNameLen || len(b) > maxNameLen {
		return maxNameLen
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
