#include "reading.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

namespace krul::redis {

void ask_for_pieces(const Client& client, const RangedRead& read, const Version& version,
                    std::vector<Request>& requests) {
  const std::string folder = folder_of(read.key);
  const FolderKeys keys = client.keys(folder);
  for (std::uint64_t done = 0; done < read.to.size();) {
    const std::uint64_t at = read.offset + done, within = at % version.part;
    const std::uint64_t length = std::min(version.part - within, read.to.size() - done);
    requests.push_back(client.request(folder, {"GETRANGE", keys.part(version, at / version.part),
                                               std::to_string(within), std::to_string(within + length - 1)}));
    requests.back().command.expected.into = read.to.subspan(done, length);
    done += length;
  }
}

Result<bool> is_there(const Request& piece, const std::string& key) {
  if (!piece.status) return propagate(piece.status);
  if (piece.reply->type == REDIS_REPLY_NIL) return false;
  if (piece.reply->type != REDIS_REPLY_STRING) return strange_reply("object " + key);
  const Expected& expected = piece.command.expected;
  // For a key that is not there as well.
  if (expected.filled == 0) return false;
  if (expected.filled == expected.into.size()) return true;
  return fail(ErrorCode::truncated, "a part of object " + key + " gave " + std::to_string(expected.filled) +
                                        " bytes instead of " + std::to_string(expected.into.size()) +
                                        "; recompute what it held");
}

tl::unexpected<Error> part_is_gone(const std::string& key) {
  return fail(ErrorCode::not_found, "a part of object " + key +
                                        " was evicted or has expired on the Redis server; recompute what it held, or "
                                        "give the server more memory");
}

namespace {

class Reading {
 public:
  Reading(Client& client, std::span<const RangedRead> reads, const RequestLimits& limits, const ReadEnd& ended)
      : client_(client), reads_(reads), limits_(limits), ended_(ended), marks_(reads.size()) {}

  void run() {
    for (std::size_t i = 0; i < reads_.size(); ++i) open_.push_back(i);
    // A writer may replace objects while they are read, over and over.
    constexpr int most_attempts = 64;
    for (int attempt = 0; attempt < most_attempts && !open_.empty(); ++attempt) {
      find_versions(attempt == 0);
      read_parts();
    }
    for (const std::size_t i : open_)
      ended_(i, fail(ErrorCode::busy, "object " + reads_[i].key + " is replaced again and again; try again"));
  }

 private:
  struct Mark {
    Version version;
    std::string missed;       ///< name of a version of which a part was gone
    std::size_t pieces = 0;   ///< that are under way
    bool is_missing = false;  ///< one of them was gone
    Status status = {};
  };
  using Versions = std::map<std::string, std::optional<Result<Version>>>;

  [[nodiscard]] bool fits(std::size_t i, const Version& version) const {
    const RangedRead& read = reads_[i];
    return read.offset <= version.size && read.to.size() <= version.size - read.offset;
  }

  /// Leaves those reads open whose parts are worth asking for.
  void find_versions(bool may_guess) {
    Versions asked;
    std::vector<std::size_t> found, unsure;
    for (const std::size_t i : open_) {
      const auto known = may_guess && !reads_[i].to.empty() ? client_.versions.find(reads_[i].key) : std::nullopt;
      if (known && fits(i, *known)) {
        marks_[i].version = *known;
        found.push_back(i);
      } else {
        asked.try_emplace(reads_[i].key);
        unsure.push_back(i);
      }
    }
    ask(asked);
    for (const std::size_t i : unsure)
      if (is_worth_reading(i, *asked.at(reads_[i].key))) found.push_back(i);
    open_ = std::move(found);
  }

  void ask(Versions& versions) {
    std::vector<Request> requests;
    requests.reserve(versions.size());
    for (const auto& [key, version] : versions) requests.push_back(client_.ask_for_version(key));
    client_.run(requests, limits_);
    auto request = requests.begin();
    for (auto& [key, version] : versions) {
      version = client_.version_in(*request++, key);
      if (*version)
        client_.versions.enter(key, **version);
      else
        client_.versions.forget(key);
    }
  }

  bool is_worth_reading(std::size_t i, const Result<Version>& version) {
    const RangedRead& read = reads_[i];
    if (!version) {
      ended_(i, propagate(version));
    } else if (!fits(i, *version)) {
      ended_(i, fail(ErrorCode::truncated, "object " + read.key + " has " + std::to_string(version->size) + " bytes, " +
                                               std::to_string(read.to.size()) + " from " + std::to_string(read.offset) +
                                               " on were wanted; recompute what they held"));
    } else if (read.to.empty()) {
      ended_(i, {});
    } else if (version->name == marks_[i].missed) {
      ended_(i, part_is_gone(read.key));
    } else {
      marks_[i].version = *version;
      return true;
    }
    return false;
  }

  void read_parts() {
    std::vector<Request> requests;
    std::vector<std::size_t> owners;
    for (const std::size_t i : std::exchange(open_, {})) {
      const std::size_t before = requests.size();
      ask_for_pieces(client_, reads_[i], marks_[i].version, requests);
      marks_[i].pieces = requests.size() - before;
      marks_[i].is_missing = false;
      owners.resize(requests.size(), i);
    }
    client_.run(requests, limits_,
                [&](Request& request) { take(owners[static_cast<std::size_t>(&request - requests.data())], request); });
  }

  void take(std::size_t i, const Request& piece) {
    Mark& mark = marks_[i];
    const auto there = is_there(piece, reads_[i].key);
    if (!there && mark.status) mark.status = propagate(there);
    if (there && !*there) mark.is_missing = true;
    if (--mark.pieces > 0) return;
    if (mark.status && mark.is_missing) {
      mark.missed = mark.version.name;
      open_.push_back(i);
      return;
    }
    // What was known of the object may be why.
    if (!mark.status) client_.versions.forget(reads_[i].key);
    ended_(i, mark.status);
  }

  Client& client_;
  std::span<const RangedRead> reads_;
  const RequestLimits& limits_;
  const ReadEnd& ended_;
  std::vector<Mark> marks_;
  std::vector<std::size_t> open_;
};

}  // namespace

void read_together(Client& client, std::span<const RangedRead> reads, const RequestLimits& limits,
                   const ReadEnd& ended) {
  Reading(client, reads, limits, ended).run();
}

}  // namespace krul::redis
