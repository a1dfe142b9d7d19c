#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "client.hpp"
#include "krul/s3/s3_store.hpp"

namespace krul {

/// What the copies of a store share.
struct S3Store::State {
  /// A lock that this store holds, or takes right now.
  struct Held {
    std::mutex mutex;
    std::string token, etag;
    TimePoint renewed = {};
    std::chrono::system_clock::time_point renewed_at = {};  ///< a machine that sleeps stops the other clock
    std::int64_t renewed_unix_s = 0;                        ///< by the server's
    bool lost = false;
    std::map<std::string, std::string> manifests;  ///< ETags by object, as this store saw them last
  };

  explicit State(const S3StoreOptions& options) : client(options) {}

  [[nodiscard]] std::string path(const std::string& key) const {
    const std::string& prefix = client.options().prefix;
    return prefix.empty() ? key : prefix + "/" + key;
  }
  [[nodiscard]] std::string lock_path(const std::string& folder) const { return path(".locks/" + folder); }

  /// The lock that this store holds on a folder, renewed if it is time; none if it holds none. busy if it is lost.
  [[nodiscard]] Result<std::shared_ptr<Held>> hold(const std::string& folder);
  /// Takes the folder's lock from the server.
  [[nodiscard]] Status take(const std::string& folder, Held& held);
  void give_back(const std::string& folder);

  s3::Client client;
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<Held>> held;

 private:
  [[nodiscard]] bool is_older_than(const Held& lock, Duration age) const;
  [[nodiscard]] Status renew(const std::string& folder, Held& lock);
  [[nodiscard]] Status write_lock(const std::string& folder, Held& lock, const std::string& condition);
  [[nodiscard]] Status probe_conditions();

  std::mutex probing_;
  bool heeds_conditions_ = false;  // as far as is known
};

}  // namespace krul
