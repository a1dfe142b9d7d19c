#include "krul/simulate/server.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <random>

using namespace krul;
using namespace krul::simulate;

namespace {

constexpr Server large{.device_tokens = 1e9, .host_bytes = 1e12};

Job returning(double at_s, std::size_t conversation, PrefillTimes restored, PrefillTimes recomputed) {
  return {.at_s = at_s,
          .conversation = conversation,
          .has_history = true,
          .saved = false,
          .restored = restored,
          .recomputed = recomputed,
          .tokens = 10,
          .output = 1,
          .stored_bytes = 100};
}

Job fresh(double at_s, std::size_t conversation, double seconds) {
  Job job = returning(at_s, conversation, {}, {0, seconds, seconds});
  job.has_history = false;
  return job;
}

std::vector<Job> random_jobs(std::mt19937_64& random, std::size_t count, std::size_t longest_output) {
  std::vector<Job> jobs;
  std::vector<bool> seen(count, false);
  double at_s = 0;
  const auto seconds = [&] { return static_cast<double>(random() % 1000) / 1000; };
  for (std::size_t i = 0; i < count; ++i) {
    at_s += seconds();
    const std::size_t conversation = random() % (1 + count / 4);
    const double recompute = seconds() + 0.1, link = seconds(), cores = seconds() * recompute;
    Job job = returning(at_s, conversation, {link, cores, std::max(link, cores) + seconds() * 0.1},
                        {0, recompute, recompute});
    job.has_history = seen[conversation];
    seen[conversation] = true;
    job.tokens = 1 + random() % 100;
    job.output = 1 + random() % longest_output;
    job.stored_bytes = static_cast<double>(random() % 1000);
    jobs.push_back(job);
  }
  return jobs;
}

}  // namespace

TEST_CASE("one request takes what it takes alone") {
  const Job jobs[] = {fresh(5, 0, 2)};
  const Replay alone = replay(jobs, large);
  CHECK(alone.wait_s == std::vector<double>{2});
  CHECK(alone.ended_s == std::vector<double>{7});
  CHECK(alone.compute_s == 2);
}

TEST_CASE("the link of one request works under the compute of another") {
  // A computes 4 s. B, whose history was saved, reads 3 s at once and needs 1 s of compute, 3.5 s alone.
  Job second = returning(0, 1, {3, 1, 3.5}, {0, 9, 9});
  second.saved = true;
  const Job jobs[] = {fresh(0, 0, 4), second};
  const Replay both = replay(jobs, large);
  CHECK(both.wait_s == std::vector<double>{4, 5});
  CHECK(both.restored == 1);
  CHECK(both.link_s == 3);
  // Alone it waits for the link, without keeping the compute.
  const Job one[] = {second};
  CHECK(replay(one, large).wait_s == std::vector<double>{3.5});
}

TEST_CASE("decode steps run between prefills") {
  Job first = fresh(0, 0, 1);
  first.output = 3;
  Server server = large;
  server.decode_step_s = 1;
  server.decode_row_s = 0.25;
  server.decode_token_s = 0.025;
  const Job jobs[] = {first, fresh(1.5, 1, 2)};
  // 0-1 prefill, 1-2.5 a step of 1 + 0.25 + 10 * 0.025, 2.5-4.5 the other's prefill, 4.5-6 the last step.
  const Replay both = replay(jobs, server);
  CHECK(both.wait_s == std::vector<double>{1, 3});
  CHECK(both.ended_s[0] == doctest::Approx(6));
  CHECK(both.ended_s[1] == doctest::Approx(4.5));
  CHECK(both.compute_s == doctest::Approx(6));
}

TEST_CASE("a turn begins when the one before has ended, and finds its state or not") {
  const PrefillTimes restored{0.5, 0.5, 0.5}, recomputed{0, 3, 3};
  const Job jobs[] = {fresh(0, 7, 2), returning(1, 7, restored, recomputed)};
  const Replay both = replay(jobs, large);
  CHECK(both.wait_s == std::vector<double>{2, 0.5});
  CHECK(both.ended_s == std::vector<double>{2, 2.5});
  CHECK(both.restored == 1);
  Server small = large;
  small.host_bytes = 99;
  const Replay lost = replay(jobs, small);
  CHECK(lost.wait_s == std::vector<double>{2, 3});
  CHECK(lost.lost == 1);
}

TEST_CASE("host memory forgets the least recently saved conversation") {
  HostMemory host(100);
  host.insert(1, 40);
  host.insert(2, 40);
  host.insert(1, 50);  // larger, and the latest now
  CHECK(host.contains(1));
  CHECK(host.contains(2));
  host.insert(3, 30);
  CHECK_FALSE(host.contains(2));
  CHECK(host.contains(1));
  host.insert(4, 101);  // larger than all of it: the others go, and it is not kept
  CHECK_FALSE(host.contains(4));
  host.erase(5);
}

TEST_CASE("device memory admits in order, and refuses what can never fit") {
  Server server = large;
  server.device_tokens = 15;
  Job huge = fresh(0, 9, 1);
  huge.tokens = 16;
  const Job jobs[] = {fresh(0, 0, 2), huge, fresh(0, 1, 2)};
  const Replay replayed = replay(jobs, server);
  CHECK(replayed.wait_s[0] == 2);
  CHECK(std::isnan(replayed.wait_s[1]));
  CHECK(std::isnan(replayed.ended_s[1]));
  CHECK(replayed.wait_s[2] == 4);
}

TEST_CASE("everything that fits ends, nothing is done twice, no time runs backwards") {
  std::mt19937_64 random(1);
  for (int i = 0; i < 300; ++i) {
    const auto jobs = random_jobs(random, 1 + random() % 60, 8);
    const Server server{.device_tokens = 60 + static_cast<double>(random() % 300),
                        .host_bytes = static_cast<double>(random() % 5000),
                        .decode_step_s = 0.01,
                        .decode_row_s = 0.001,
                        .decode_token_s = 0.0001};
    const Replay replayed = replay(jobs, server);
    double end_s = 0, link_s = 0;
    std::size_t histories = 0, done = 0;
    for (std::size_t j = 0; j < jobs.size(); ++j) {
      const bool fits = static_cast<double>(jobs[j].tokens) <= server.device_tokens;
      REQUIRE(std::isnan(replayed.ended_s[j]) == !fits);
      REQUIRE(std::isnan(replayed.wait_s[j]) == !fits);
      if (!fits) continue;
      ++done;
      if (jobs[j].has_history) ++histories;
      // A request takes at least what it takes alone with the better of the two ways.
      const double alone_s =
          std::min(jobs[j].has_history ? jobs[j].restored.first_token_s : 1e9, jobs[j].recomputed.first_token_s);
      REQUIRE(replayed.wait_s[j] >= alone_s - 1e-9);
      REQUIRE(replayed.ended_s[j] >= jobs[j].at_s + alone_s - 1e-9);
      end_s = std::max(end_s, replayed.ended_s[j]);
      link_s += jobs[j].restored.link_s;
    }
    REQUIRE(replayed.restored + replayed.lost == histories);
    REQUIRE(replayed.compute_s <= end_s + 1e-9);
    REQUIRE(replayed.link_s <= link_s + 1e-9);
    REQUIRE(replayed.link_s <= end_s + 1e-9);
    if (done > 0) REQUIRE(replayed.compute_s > 0);
    const Replay again = replay(jobs, server);
    for (std::size_t j = 0; j < jobs.size(); ++j)
      if (!std::isnan(replayed.wait_s[j])) REQUIRE(again.wait_s[j] == replayed.wait_s[j]);
  }
}

TEST_CASE("a faster link never makes a request wait longer when all is prefill and memory is ample") {
  // First come, first served, and every time is a maximum or a sum of times that fall: rounding aside, none can rise.
  std::mt19937_64 random(2);
  for (int i = 0; i < 300; ++i) {
    auto jobs = random_jobs(random, 1 + random() % 60, 1);
    for (std::size_t j = 0; j < jobs.size(); ++j) jobs[j].conversation = j, jobs[j].saved = true;
    const Replay before = replay(jobs, large);
    for (Job& job : jobs) {
      job.restored.first_token_s -= job.restored.link_s / 2;
      job.restored.link_s /= 2;
      job.restored.first_token_s = std::max({job.restored.first_token_s, job.restored.link_s, job.restored.cores_s});
    }
    const Replay after = replay(jobs, large);
    for (std::size_t j = 0; j < jobs.size(); ++j) REQUIRE(after.wait_s[j] <= before.wait_s[j] + 1e-9);
  }
}

TEST_CASE("jobs out of order and times that contradict each other are the caller's mistake") {
  const auto refuses = [](std::vector<Job> jobs) {
    CHECK_THROWS_AS(static_cast<void>(replay(jobs, large)), PreconditionError);
  };
  CHECK_NOTHROW(static_cast<void>(replay(std::vector<Job>{}, large)));
  refuses({fresh(1, 0, 1), fresh(0, 1, 1)});
  refuses({fresh(-1, 0, 1)});
  refuses({returning(0, 0, {2, 0, 1}, {})});
  refuses({returning(0, 0, {0, 2, 1}, {})});
  refuses({returning(0, 0, {-1, 0, 1}, {})});
  Job silent = fresh(0, 0, 1);
  silent.output = 0;
  refuses({silent});
}
