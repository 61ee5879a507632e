package mqtt

// partitionFor is the default partitioner of Kafka's clients: murmur2 of the key,
// sign bit dropped. Records of one key are so in one partition whoever wrote them.
func partitionFor(key []byte, partitions int) int {
	if partitions == 1 {
		return 0
	}
	return int(murmur2(key)&0x7fffffff) % partitions
}

func murmur2(data []byte) uint32 {
	const m = 0x5bd1e995
	h := uint32(0x9747b28c) ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16 | uint32(data[3])<<24
		k *= m
		k ^= k >> 24
		h = h*m ^ k*m
	}
	for i := len(data) - 1; i >= 0; i-- {
		h ^= uint32(data[i]) << (8 * i)
		if i == 0 {
			h *= m
		}
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
