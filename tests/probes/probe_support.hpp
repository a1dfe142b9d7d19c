#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "krul/store/file_store.hpp"
#include "support/toy_talk.hpp"

namespace krul::test {

/// How often random probes try: KRUL_PROBES, or a number that takes a second or two.
inline std::size_t probes(std::size_t by_default) {
  const char* const wanted = std::getenv("KRUL_PROBES");
  return wanted ? std::strtoull(wanted, nullptr, 10) : by_default;
}

/// How many of this process's files are open.
inline std::size_t open_files() {
  const std::filesystem::directory_iterator files("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

/// A directory in memory, if the machine has one: what is probed is the order of calls, not the medium.
class ProbeDirectory {
 public:
  ProbeDirectory() {
    const std::string in =
        ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : std::filesystem::temp_directory_path().string();
    std::string pattern = in + "/krul-probe-XXXXXX";
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path = pattern;
  }
  ProbeDirectory(const ProbeDirectory&) = delete;
  ProbeDirectory& operator=(const ProbeDirectory&) = delete;
  ~ProbeDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::filesystem::path path;
};

/// A talk of two turns in real files, which can be brought back to what it was.
class ProbedTalk {
 public:
  static constexpr std::size_t saved = 40, next = 52, after = 60;  ///< tokens

  ProbedTalk() {
    REQUIRE(talk.turn(30));
    REQUIRE(talk.turn(saved));  // an object with a tail that is replaced: the next save compacts
    std::filesystem::copy(store.path() / talk.folder, directory_.path / "intact");
  }
  void reset() {
    std::filesystem::remove_all(store.path() / talk.folder);
    std::filesystem::copy(directory_.path / "intact", store.path() / talk.folder);
  }
  /// All files of the conversation's folder, but the lock.
  [[nodiscard]] std::vector<std::string> files() const {
    std::vector<std::string> names;
    const auto folder = store.path() / talk.folder;
    if (std::filesystem::exists(folder))
      for (const auto& entry : std::filesystem::directory_iterator(folder))
        if (entry.path().filename() != ".lock") names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  /// Whether the files are those that a manifest names, and both its copies.
  [[nodiscard]] bool has_no_leftovers() { return files().size() == talk.manifest().objects.size() + 2; }
  /// Whether the next turn succeeds, is right, and leaves all in order.
  [[nodiscard]] std::string goes_on() {
    const auto turn = talk.turn(after);
    if (!turn) return "the next turn fails: " + turn.error().message;
    if (!talk.is_right(after)) return "the next turn is wrong";
    if (!talk.is_clean()) return "verify finds something";
    if (!has_no_leftovers()) return "files are left";
    if (talk.manifest().rows != after) return "it did not save";
    return {};
  }

 private:
  ProbeDirectory directory_;

 public:
  FileStore store = FileStore::open(directory_.path / "store").value();
  ToyTalk talk{store};
};

/// Runs `body` in a process of its own, which ends with its result.
template <class Body>
pid_t start_child(Body&& body) {
  std::fflush(nullptr);  // or the child might print it again
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(body());
  return child;
}

/// How a process ends: its result, or 128 and the signal.
inline int status_of(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) REQUIRE(errno == EINTR);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

template <class Body>
int in_a_child(Body&& body) {
  return status_of(start_child(std::forward<Body>(body)));
}

}  // namespace krul::test
