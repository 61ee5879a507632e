package kafka

const produceKey = 0
