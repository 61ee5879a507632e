package group

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
)

// assignee is a member as an assignor sees it.
type assignee struct {
	id, instance string
	topics       []TopicID // subscribed to
	held         Share     // of the target before
}

// assignors are the server-side assignors by Kafka's names. Each divides the partitions
// of topics (of so many partitions) among those who subscribe to them.
var assignors = map[string]func(as []assignee, sizes map[TopicID]int32) []Share{
	"uniform": uniform,
	"range":   ranges,
}

func compareTopics(a, b TopicID) int { return bytes.Compare(a[:], b[:]) }

// subscribers lists, by topic, the places of those who subscribe to it.
func subscribers(as []assignee) map[TopicID][]int {
	by := map[TopicID][]int{}
	for i := range as {
		for _, topic := range as[i].topics {
			by[topic] = append(by[topic], i)
		}
	}
	return by
}

// uniform gives everybody as many partitions as the others, as far as subscriptions
// allow, and moves as few as it can: who held a partition keeps it, what is free goes to
// who has least, and then partitions move from who has two more than another.
func uniform(as []assignee, sizes map[TopicID]int32) []Share {
	by := subscribers(as)
	before := map[Held]int{}
	for i := range as {
		for _, h := range as[i].held {
			before[h] = i
		}
	}
	var all []Held
	for _, topic := range slices.SortedFunc(maps.Keys(by), compareTopics) {
		for p := range sizes[topic] {
			all = append(all, Held{topic, p})
		}
	}
	owner, load := make([]int, len(all)), make([]int, len(as))
	for n, h := range all {
		owner[n] = -1
		if i, ok := before[h]; ok && slices.Contains(by[h.Topic], i) {
			owner[n] = i
			load[i]++
		}
	}
	for n, h := range all {
		if owner[n] < 0 {
			owner[n] = least(by[h.Topic], load)
			load[owner[n]]++
		}
	}
	balance(all, owner, load, by)
	shares := make([]Share, len(as))
	for n, h := range all {
		shares[owner[n]] = append(shares[owner[n]], h)
	}
	return shares
}

// balancePasses bounds the work of evening out subscriptions that differ.
const balancePasses = 10

func balance(all []Held, owner, load []int, by map[TopicID][]int) {
	for range balancePasses {
		moved := false
		// The last partitions move first, so that the first stay where they are.
		for n := len(all) - 1; n >= 0; n-- {
			from, to := owner[n], least(by[all[n].Topic], load)
			if load[from]-load[to] >= 2 {
				owner[n], moved = to, true
				load[from]--
				load[to]++
			}
		}
		if !moved {
			return
		}
	}
}

// least is the place with the least load, the first of several.
func least(places, load []int) int {
	best := places[0]
	for _, i := range places[1:] {
		if load[i] < load[best] {
			best = i
		}
	}
	return best
}

// ranges gives each subscriber of a topic a run of its partitions, in the order of the
// members (static ones by their instance id), so that equal topics are divided alike.
func ranges(as []assignee, sizes map[TopicID]int32) []Share {
	shares := make([]Share, len(as))
	by := subscribers(as)
	name := func(i int) string { return cmp.Or(as[i].instance, as[i].id) }
	for _, topic := range slices.SortedFunc(maps.Keys(by), compareTopics) {
		places := slices.SortedFunc(slices.Values(by[topic]), func(a, b int) int { return cmp.Compare(name(a), name(b)) })
		n, rest, next := int(sizes[topic])/len(places), int(sizes[topic])%len(places), int32(0)
		for rank, i := range places {
			run := n
			if rank < rest {
				run++
			}
			for range run {
				shares[i] = append(shares[i], Held{topic, next})
				next++
			}
		}
	}
	return shares
}
