#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <krul/core/workers.hpp>
#include <numeric>
#include <stdexcept>
#include <system_error>
#include <vector>

using krul::Workers;

namespace {

/// True if one call of parallel_for visits every index once and names only workers that exist.
bool visits_each_once(Workers& workers, std::size_t count) {
  std::vector<std::atomic<int>> visits(count);
  std::atomic<bool> known_worker = true;
  workers.parallel_for(count, [&](std::size_t index, std::size_t worker) {
    ++visits[index];
    if (worker >= workers.threads()) known_worker = false;
  });
  for (const auto& visit : visits)
    if (visit != 1) return false;
  return known_worker;
}

}  // namespace

TEST_CASE("parallel_for visits every index exactly once") {
  for (const std::size_t threads : {1, 2, 3, 5}) {
    CAPTURE(threads);
    Workers workers(threads);
    CHECK(workers.threads() == threads);
    for (const std::size_t count : {0, 1, 2, 3, 4, 7, 100, 1000}) {
      CAPTURE(count);
      CHECK(visits_each_once(workers, count));
    }
    std::size_t wrong = 0;
    for (int round = 0; round < 300; ++round) wrong += !visits_each_once(workers, static_cast<std::size_t>(round % 9));
    CHECK(wrong == 0);
  }
}

TEST_CASE("what the tasks wrote is visible when parallel_for returns") {
  Workers workers(3);
  std::vector<std::size_t> values(500);
  for (std::size_t round = 1; round <= 50; ++round) {
    workers.parallel_for(values.size(), [&](std::size_t index, std::size_t) { values[index] += index; });
    REQUIRE(std::accumulate(values.begin(), values.end(), std::size_t{0}) == round * 499 * 500 / 2);
  }
}

TEST_CASE("a worker number is held by one task at a time, so that it can name scratch memory") {
  Workers workers(4);
  std::vector<std::atomic<int>> inside(workers.threads());
  std::atomic<int> shared = 0;
  for (int round = 0; round < 50; ++round)
    workers.parallel_for(64, [&](std::size_t, std::size_t worker) {
      if (++inside[worker] != 1) ++shared;
      --inside[worker];
    });
  CHECK(shared == 0);
}

TEST_CASE("calls from several threads queue up") {
  Workers workers(2);
  std::atomic<int> wrong = 0;
  {
    std::vector<std::jthread> callers;
    for (int caller = 0; caller < 3; ++caller)
      callers.emplace_back([&] {
        for (int round = 0; round < 100; ++round)
          if (!visits_each_once(workers, static_cast<std::size_t>(round % 7))) ++wrong;
      });
  }
  CHECK(wrong == 0);
}

TEST_CASE("a team can be left at once, before or after its workers fell asleep") {
  for (int round = 0; round < 100; ++round) Workers unused(3);
  for (int round = 0; round < 100; ++round) {
    Workers used(3);
    std::atomic<int> calls = 0;
    used.parallel_for(5, [&](std::size_t, std::size_t) { ++calls; });
    REQUIRE(calls == 5);
  }
}

TEST_CASE("a single thread runs tasks in order, on the caller") {
  Workers alone(1);
  std::vector<std::size_t> order;
  const auto caller = std::this_thread::get_id();
  alone.parallel_for(4, [&](std::size_t index, std::size_t worker) {
    order.push_back(index);
    CHECK(worker == 0);
    CHECK(std::this_thread::get_id() == caller);
  });
  CHECK(order == std::vector<std::size_t>{0, 1, 2, 3});
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("a team that the system has no threads for is refused, those that began end, and a smaller team works") {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    // Every thread wants room for a stack.
    rlim_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlim_t most = pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + (rlim_t{96} << 20);
    const rlimit limit{most, most};
    if (pages == 0 || ::setrlimit(RLIMIT_AS, &limit) != 0) ::_exit(1);
    for (int round = 0; round < 3; ++round) try {
        Workers many(4000);
        ::_exit(2);
      } catch (const std::system_error&) {
      }
    Workers few(2);
    ::_exit(visits_each_once(few, 100) ? 0 : 3);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) REQUIRE(errno == EINTR);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
#endif

TEST_CASE("a team of no threads is refused") {
  CHECK_THROWS_AS(Workers(0), krul::PreconditionError);
}

TEST_CASE("what a task throws is thrown in the caller, once, and all other tasks run") {
  struct Thrown {
    std::size_t index;
  };
  for (const std::size_t threads : {1, 2, 5}) {
    CAPTURE(threads);
    Workers workers(threads);
    for (int round = 0; round < 200; ++round) {
      std::atomic<std::size_t> ran = 0;
      const auto all_throw = [&](std::size_t index, std::size_t) {
        ++ran;
        throw Thrown{index};
      };
      CHECK_THROWS_AS(workers.parallel_for(23, all_throw), Thrown);
      CHECK(ran == 23);
      ran = 0;
      CHECK_THROWS_WITH_AS(workers.parallel_for(9,
                                                [&](std::size_t index, std::size_t) {
                                                  ++ran;
                                                  if (index == 7) throw std::runtime_error("seven");
                                                }),
                           "seven", std::runtime_error);
      CHECK(ran == 9);
      CHECK_THROWS_AS(workers.parallel_for(1, all_throw), Thrown);
      CHECK(visits_each_once(workers, 40));
    }
  }
}
