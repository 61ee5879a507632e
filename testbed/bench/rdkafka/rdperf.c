/* librdkafka as a load: what its own rdkafka_performance measures, which Debian does not ship.
 *
 *   rdperf produce BROKER TOPIC RECORDS SIZE RATE [NAME=VALUE...]   RATE 0 is as fast as it goes
 *   rdperf consume BROKER TOPIC PARTITIONS RECORDS [NAME=VALUE...]
 *   rdperf latency BROKER TOPIC RATE SECONDS SIZE [NAME=VALUE...]   from before produce until after consume
 *
 * Prints "records/s P50 P99", latencies in milliseconds. Settings are librdkafka's defaults, acks=all among
 * them, unless named. Built by cc -O2 rdperf.c -lrdkafka -lpthread.
 */
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void die(const char *what, const char *why) {
    fprintf(stderr, "rdperf: %s: %s\n", what, why);
    exit(1);
}

static float *took; /* ms, of each record */
static int64_t done;

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void report(int64_t n, int64_t us) {
    if (took)
        qsort(took, n, sizeof *took, ascending);
    printf("%.1f %.3f %.3f\n", n * 1e6 / us, took ? took[n / 2] : 0, took ? took[(int64_t)(n * 0.99)] : 0);
}

/* Each record carries when it was sent: as its opaque for produce, in its value for latency. */
static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque) {
    (void)rk, (void)opaque;
    if (m->err)
        die("produce", rd_kafka_message_errstr(m));
    if (m->_private)
        took[done] = (now_us() - (int64_t)(intptr_t)m->_private) / 1000.0f;
    done++;
}

static rd_kafka_t *client(rd_kafka_type_t type, const char *broker, char **settings) {
    char err[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (type == RD_KAFKA_PRODUCER)
        rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    rd_kafka_conf_set(conf, "bootstrap.servers", broker, NULL, 0);
    rd_kafka_conf_set(conf, "log_level", "0", NULL, 0);
    for (; *settings; settings++) {
        char name[128], *eq = strchr(*settings, '=');
        snprintf(name, sizeof name, "%.*s", (int)(eq - *settings), *settings);
        if (rd_kafka_conf_set(conf, name, eq + 1, err, sizeof err) != RD_KAFKA_CONF_OK)
            die(*settings, err);
    }
    rd_kafka_t *rk = rd_kafka_new(type, conf, err, sizeof err);
    if (!rk)
        die("client", err);
    return rk;
}

/* What does not compress: random bytes, the same in every record. */
static char *payload(size_t size) {
    char *p = malloc(size < 8 ? 8 : size);
    srand(1);
    for (size_t i = 0; i < size; i++)
        p[i] = rand();
    return p;
}

static void put(rd_kafka_t *rk, rd_kafka_topic_t *t, char *value, size_t size, int64_t mark) {
    while (rd_kafka_produce(t, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, value, size, NULL, 0, (void *)(intptr_t)mark)) {
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            die("produce", rd_kafka_err2str(rd_kafka_last_error()));
        rd_kafka_poll(rk, 10);
    }
    rd_kafka_poll(rk, 0);
}

/* Waits until record i of so many a second is due; serves callbacks meanwhile. */
static void pace(rd_kafka_t *rk, int64_t start, int64_t i, int64_t rate) {
    int64_t left;
    while (rate && (left = start + i * 1000000 / rate - now_us()) > 0) {
        if (left > 2000) {
            rd_kafka_poll(rk, 1);
        } else {
            struct timespec t = {0, left * 1000};
            nanosleep(&t, NULL);
        }
    }
}

static void produce(char **a) {
    int64_t n = atoll(a[2]), rate = atoll(a[4]);
    size_t size = atoll(a[3]);
    char *value = payload(size);
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, a[0], a + 5);
    rd_kafka_topic_t *t = rd_kafka_topic_new(rk, a[1], NULL);
    took = malloc(n * sizeof *took);
    int64_t start = now_us();
    for (int64_t i = 0; i < n; i++) {
        pace(rk, start, i, rate);
        put(rk, t, value, size, now_us());
    }
    while (done < n)
        rd_kafka_poll(rk, 100);
    report(n, now_us() - start);
}

static rd_kafka_t *reader(const char *broker, const char *topic, int partitions, int64_t from, char **settings) {
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, broker, settings);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    for (int p = 0; p < partitions; p++)
        rd_kafka_topic_partition_list_add(list, topic, p)->offset = from;
    rd_kafka_poll_set_consumer(rk);
    rd_kafka_resp_err_t err = rd_kafka_assign(rk, list);
    if (err)
        die("assign", rd_kafka_err2str(err));
    return rk;
}

static void consume(char **a) {
    char *settings[64] = {"group.id=rdperf"};
    for (int i = 0; a[4 + i] && i < 62; i++)
        settings[1 + i] = a[4 + i];
    int64_t n = atoll(a[3]), got = 0, start = 0;
    rd_kafka_queue_t *q;
    rd_kafka_message_t *batch[1000];
    rd_kafka_t *rk = reader(a[0], a[1], atoi(a[2]), RD_KAFKA_OFFSET_BEGINNING, settings);
    q = rd_kafka_queue_get_consumer(rk);
    while (got < n) {
        ssize_t k = rd_kafka_consume_batch_queue(q, 1000, batch, 1000);
        if (k > 0 && !start)
            start = now_us(); /* the first have come: connecting is not what is measured */
        for (ssize_t i = 0; i < k; i++) {
            if (batch[i]->err)
                die("consume", rd_kafka_message_errstr(batch[i]));
            rd_kafka_message_destroy(batch[i]);
        }
        got += k;
    }
    report(got, now_us() - start);
}

struct tail {
    rd_kafka_t *rk;
    int64_t n;
};

static void *tail(void *arg) {
    struct tail *t = arg;
    for (int64_t got = 0; got < t->n;) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(t->rk, 1000);
        if (!m)
            continue;
        if (m->err)
            die("consume", rd_kafka_message_errstr(m));
        int64_t sent;
        memcpy(&sent, m->payload, 8);
        if (sent) /* 0 warms up */
            took[got++] = (now_us() - sent) / 1000.0f;
        rd_kafka_message_destroy(m);
    }
    return NULL;
}

static void latency(char **a) {
    int64_t rate = atoll(a[2]), n = rate * atoll(a[3]);
    size_t size = atoll(a[4]);
    char *value = payload(size), *settings[] = {"group.id=rdperf", NULL};
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, a[0], a + 5);
    rd_kafka_topic_t *t = rd_kafka_topic_new(rk, a[1], NULL);
    took = calloc(n, sizeof *took);
    struct tail at = {reader(a[0], a[1], 1, RD_KAFKA_OFFSET_BEGINNING, settings), n};
    pthread_t thread;
    pthread_create(&thread, NULL, tail, &at);
    int64_t start = now_us();
    for (int64_t i = -2 * rate; i < n; i++) { /* two seconds to warm up */
        pace(rk, start, i + 2 * rate, rate);
        int64_t sent = i < 0 ? 0 : now_us();
        memcpy(value, &sent, 8);
        put(rk, t, value, size, 0);
    }
    pthread_join(thread, NULL);
    report(n, now_us() - start);
}

int main(int argc, char **argv) {
    alarm(300); /* a run that takes longer has lost its broker */
    if (argc > 5 && !strcmp(argv[1], "produce") && argc > 6)
        produce(argv + 2);
    else if (argc > 5 && !strcmp(argv[1], "consume"))
        consume(argv + 2);
    else if (argc > 6 && !strcmp(argv[1], "latency"))
        latency(argv + 2);
    else
        die("usage", "see the head of rdperf.c");
    fflush(stdout);
    _Exit(0); /* all is acknowledged: nothing to tear down */
}
