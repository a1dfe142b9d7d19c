#include "krul/s3/s3_store.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "krul/s3/s3_url.hpp"
#include "objects.hpp"
#include "state.hpp"

namespace krul {
namespace s3 {
namespace {

constexpr std::size_t sizes_one_by_one = 2;  // of a folder; of more, all are listed

tl::unexpected<Error> too_short(const RangedRead& read, std::optional<std::uint64_t> total) {
  return fail(ErrorCode::truncated, "object " + read.key + " has " +
                                        (total ? std::to_string(*total) : std::string("fewer")) + " bytes, " +
                                        std::to_string(read.to.size()) + " from " + std::to_string(read.offset) +
                                        " on were wanted; recompute what they held");
}

// Reads of one object that touch, one after the other: one request fills them.
struct ReadRun {
  std::span<const RangedRead> reads;
  std::size_t first = 0;    // index of reads[0] among all
  std::size_t current = 0;  // the first that is not filled
  std::size_t filled = 0;   // bytes of that
  bool ranges_ignored = false;

  [[nodiscard]] std::uint64_t bytes() const {
    return reads.back().offset + reads.back().to.size() - reads.front().offset;
  }
  Request request(const std::string& path) {
    filled = 0;
    const std::uint64_t from = reads[current].offset;
    return Request{.key = path, .range = std::pair{from, reads.front().offset + bytes() - from}};
  }
  // Calls filled_one(i) for each read that is full.
  template <class Filled>
  bool take(const Answer& answer, std::span<const std::byte> bytes, Filled&& filled_one) {
    ranges_ignored = answer.status != 206;
    if (ranges_ignored) return false;
    while (!bytes.empty() && current < reads.size()) {
      const std::span<std::byte> to = reads[current].to.subspan(filled);
      const std::size_t count = std::min(to.size(), bytes.size());
      std::copy_n(bytes.begin(), count, to.begin());
      bytes = bytes.subspan(count);
      filled += count;
      if (count == to.size()) {
        filled_one(first + current);
        ++current;
        filled = 0;
      }
    }
    return true;
  }
  // Whether what came is all that there is.
  [[nodiscard]] bool whole(const Answer& answer) const {
    if (ranges_ignored || current == reads.size() || !answer.total) return true;
    return reads[current].offset + filled >= *answer.total;
  }
  // How what is not filled ended.
  [[nodiscard]] Status end_of(std::size_t index, const Transfer& transfer) const {
    if (ranges_ignored)
      return fail(ErrorCode::unsupported, "the S3 server gives whole objects only; use one that heeds Range");
    if (transfer.status || transfer.answer.status == 416) return too_short(reads[index], transfer.answer.total);
    return transfer.status;
  }
};

std::vector<ReadRun> runs_of(std::span<const RangedRead> reads, std::uint64_t most) {
  std::vector<ReadRun> runs;
  for (std::size_t i = 0; i < reads.size(); ++i) {
    const RangedRead& read = reads[i];
    if (read.to.empty()) continue;
    if (!runs.empty()) {
      ReadRun& last = runs.back();
      const RangedRead& before = last.reads.back();
      if (last.first + last.reads.size() == i && before.key == read.key &&
          before.offset + before.to.size() == read.offset && last.bytes() + read.to.size() <= most) {
        last.reads = reads.subspan(last.first, last.reads.size() + 1);
        continue;
      }
    }
    runs.push_back({.reads = reads.subspan(i, 1), .first = i});
  }
  return runs;
}

bool is_manifest(std::string_view object) {
  return object.starts_with("manifest-");
}

Transfer head_of(const std::string& key, const std::string& path) {
  return {.action = "find object " + key, .request = [path] { return Request{.method = "HEAD", .key = path}; }};
}

Result<std::uint64_t> size_told(const Transfer& head) {
  if (!head.status) return propagate(head.status);
  if (!head.answer.length)
    return fail(ErrorCode::io, "cannot " + head.action + ": the server does not tell its size; use another one");
  return *head.answer.length;
}

}  // namespace
}  // namespace s3

S3Store::S3Store(std::shared_ptr<State> state) : state_(std::move(state)) {}

Result<S3Store> S3Store::open(S3StoreOptions options) {
  if (const Status status = check_s3_options(options); !status) return propagate(status);
  auto state = std::make_shared<State>(options);
  s3::Transfer look{.action = "open the store", .request = [&] {
                      return s3::Request{.query = {{"list-type", "2"}, {"max-keys", "1"}, {"prefix", options.prefix}}};
                    }};
  state->client.run(look);
  if (!look.status && look.status.error().code == ErrorCode::not_found)
    return fail(ErrorCode::io, "cannot open the store: what answers at " +
                                   (options.endpoint.empty() ? "Amazon's address" : options.endpoint) +
                                   " knows no buckets, and may be no S3 server; correct the endpoint");
  if (!look.status) return propagate(look.status);
  return S3Store(std::move(state));
}

Status S3Store::put(const std::string& key, std::span<const std::byte> bytes) {
  expects(is_store_key(key), "S3Store::put: not a store key");
  if (bytes.size() > capabilities().largest)
    return fail(ErrorCode::too_large, "an object in S3 has 5 TiB at most; save a smaller conversation");
  const std::string folder = key.substr(0, 32), object = key.substr(33), action = "write object " + key;
  const auto lock = state_->hold(folder);
  if (!lock) return propagate(lock);
  if (!*lock || !s3::is_manifest(object) || !state_->client.options().conditional_writes) {
    const auto put = s3::put_object(state_->client, state_->path(key), bytes, "", action);
    return put ? Status() : propagate(put);
  }
  const std::lock_guard guard((*lock)->mutex);
  auto& known = (*lock)->manifests;
  const auto found = known.find(object);
  const std::string condition = found == known.end() ? "If-None-Match: *" : "If-Match: " + found->second;
  auto put = s3::put_object(state_->client, state_->path(key), bytes, condition, action);
  if (put) {
    known[object] = std::move(*put);
    return {};
  }
  if (put.error().code != ErrorCode::busy) return propagate(put);
  (*lock)->lost = true;
  return fail(ErrorCode::busy, "another writer has saved conversation folder " + folder +
                                   " since this one opened it; nothing of it is replaced: open the conversation again");
}

Status S3Store::get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
  expects(is_store_key(key), "S3Store::get: not a store key");
  Status ended;
  const RangedRead read{key, offset, to};
  get_together({&read, 1}, {}, [&](std::size_t, const Status& status) { ended = status; });
  return ended;
}

void S3Store::get_together(std::span<const RangedRead> reads, const RequestLimits& limits, const ReadEnd& ended) {
  for (const RangedRead& read : reads) expects(is_store_key(read.key), "S3Store::get_together: not a store key");
  for (std::size_t i = 0; i < reads.size(); ++i) {
    if (!reads[i].to.empty()) continue;
    s3::Transfer head = s3::head_of(reads[i].key, state_->path(reads[i].key));
    state_->client.run({&head, 1}, limits);
    const auto bytes = s3::size_told(head);
    const bool is_short = bytes && *bytes < reads[i].offset;
    ended(i, !bytes ? propagate(bytes) : is_short ? Status(s3::too_short(reads[i], *bytes)) : Status());
  }
  std::vector<s3::ReadRun> runs = s3::runs_of(reads, state_->client.options().read_bytes);
  std::vector<s3::Transfer> transfers(runs.size());
  std::vector<std::size_t> filled;  // and not yet told
  for (std::size_t i = 0; i < runs.size(); ++i) {
    s3::ReadRun& run = runs[i];
    const std::string& key = run.reads.front().key;
    transfers[i] = {.action = "read object " + key,
                    .request = [&run, path = state_->path(key)] { return run.request(path); },
                    .take =
                        [&run, &filled](const s3::Answer& answer, std::span<const std::byte> bytes) {
                          return run.take(answer, bytes, [&](std::size_t read) { filled.push_back(read); });
                        },
                    .whole = [&run](const s3::Answer& answer) { return run.whole(answer); }};
  }
  std::vector<bool> told(runs.size());
  state_->client.run(transfers, limits, [&] {
    for (const std::size_t read : std::exchange(filled, {})) ended(read, {});
    for (std::size_t i = 0; i < runs.size(); ++i) {
      if (!transfers[i].ended || told[i]) continue;
      told[i] = true;
      for (std::size_t k = runs[i].current; k < runs[i].reads.size(); ++k)
        ended(runs[i].first + k, runs[i].end_of(k, transfers[i]));
    }
  });
}

Result<std::uint64_t> S3Store::size(const std::string& key) {
  expects(is_store_key(key), "S3Store::size: not a store key");
  s3::Transfer head = s3::head_of(key, state_->path(key));
  state_->client.run(head);
  return s3::size_told(head);
}

std::vector<Result<std::uint64_t>> S3Store::sizes(std::span<const std::string> keys) {
  std::map<std::string, std::vector<std::size_t>> folders;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    expects(is_store_key(keys[i]), "S3Store::sizes: not a store key");
    folders[keys[i].substr(0, 32)].push_back(i);
  }
  std::vector<Result<std::uint64_t>> sizes(keys.size());
  std::vector<s3::Transfer> heads;
  std::vector<std::size_t> headed;
  for (const auto& [folder, members] : folders) {
    if (members.size() <= s3::sizes_one_by_one) {
      for (const std::size_t i : members) {
        heads.push_back(s3::head_of(keys[i], state_->path(keys[i])));
        headed.push_back(i);
      }
      continue;
    }
    const std::string inside = state_->path(folder + "/");
    const auto listed = s3::list_objects(state_->client, inside, "", "list folder " + folder);
    std::map<std::string, std::uint64_t> known;
    if (listed)
      for (const s3::Listed& object : *listed) known[object.key.substr(inside.size())] = object.bytes;
    for (const std::size_t i : members) {
      const auto found = known.find(keys[i].substr(33));
      if (!listed) {
        sizes[i] = propagate(listed);
      } else if (found == known.end()) {
        sizes[i] = fail(ErrorCode::not_found, "cannot find object " + keys[i] + ": it is not in bucket " +
                                                  state_->client.options().bucket + "; recompute what it held");
      } else {
        sizes[i] = found->second;
      }
    }
  }
  state_->client.run(heads);
  for (std::size_t i = 0; i < heads.size(); ++i) sizes[headed[i]] = s3::size_told(heads[i]);
  return sizes;
}

Result<std::vector<std::byte>> S3Store::load(const std::string& key, std::uint64_t most) {
  expects(is_store_key(key), "S3Store::load: not a store key");
  s3::Transfer read{
      .action = "read object " + key, .request = [&] { return s3::Request{.key = state_->path(key)}; }, .most = most};
  state_->client.run(read);
  if (read.status) return std::move(read.answer.body);
  if (read.status.error().code == ErrorCode::too_large) return larger_than(most, key);
  return propagate(read.status);
}

Status S3Store::erase(const std::string& key) {
  expects(is_store_key(key), "S3Store::erase: not a store key");
  const auto lock = state_->hold(key.substr(0, 32));
  if (!lock) return propagate(lock);
  const Status status = s3::erase_object(state_->client, state_->path(key), "erase object " + key);
  if (status && *lock) {
    const std::lock_guard guard((*lock)->mutex);
    (*lock)->manifests.erase(key.substr(33));
  }
  return status;
}

Result<std::vector<std::string>> S3Store::list(const std::string& folder) {
  expects(folder.empty() || is_store_folder(folder), "S3Store::list: not a folder");
  const std::string inside = folder.empty() ? state_->path("") : state_->path(folder + "/");
  const auto listed = s3::list_objects(state_->client, inside, "/",
                                       folder.empty() ? std::string("list the store") : "list folder " + folder);
  if (!listed) return propagate(listed);
  std::vector<std::string> names;
  for (const s3::Listed& object : *listed) {
    std::string name = object.key.substr(inside.size());
    if (folder.empty() && name.ends_with('/')) {
      name.pop_back();
      if (is_store_folder(name)) names.push_back(std::move(name));
    } else if (!folder.empty() && is_object_name(name)) {
      names.push_back(std::move(name));
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

}  // namespace krul
