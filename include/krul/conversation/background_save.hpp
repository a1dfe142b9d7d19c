#pragma once

#include <chrono>
#include <cstddef>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "krul/backend/kv_snapshot.hpp"
#include "krul/conversation/save.hpp"
#include "krul/core/thread_priority.hpp"

namespace krul {

/// Everything a save needs that goes on by itself.
template <ConversationStore S, Clock C = SteadyClock>
struct BackgroundSaveJob {
  S& store;  ///< outlives the save
  std::string folder;
  KvSnapshot rows;  ///< from the first block on that changed
  Geometry geometry;
  SavePlan plan;
  std::optional<AttentionStatistics> statistics;
  TokenFeatures features = {};                   ///< of the rows, if the plan's profile asks for them
  Manifest manifest;                             ///< as saved before
  std::vector<Token> tokens;                     ///< of the whole conversation
  std::string texts = {};                        ///< as in SaveJob
  std::size_t unchanged = 0;                     ///< leading rows that are those of the manifest
  std::vector<std::size_t> damaged_blocks = {};  ///< as in SaveJob
  C clock = {};
};

/// One save in a thread of its own, which yields to all others, so that the conversation goes on beside it.
/// Destruction waits for its end.
template <ConversationStore S, Clock C = SteadyClock>
class BackgroundSave {
 public:
  /// Starts. Where the system gives no thread it has ended when this returns.
  explicit BackgroundSave(BackgroundSaveJob<S, C> job)
      : job_(std::make_unique<BackgroundSaveJob<S, C>>(std::move(job))), report_(started([work = job_.get()] {
          Workers alone(1);
          const SaveJob<KvSnapshot, S, C> save{.store = work->store,
                                               .folder = work->folder,
                                               .cache = work->rows,
                                               .geometry = work->geometry,
                                               .workers = alone,
                                               .plan = work->plan,
                                               .statistics = work->statistics ? &*work->statistics : nullptr,
                                               .features = &work->features,
                                               .texts = work->texts,
                                               .damaged_blocks = work->damaged_blocks,
                                               .clock = work->clock};
          return save_conversation(save, work->manifest, work->tokens, work->unchanged);
        })) {}

  [[nodiscard]] bool done() const { return report_.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }

  /// Waits for the end. Once.
  /// @param manifest  gets what is saved now, whether the save succeeded, failed or threw
  /// @throws what save_conversation throws
  [[nodiscard]] Result<SaveReport> finish(Manifest& manifest) {
    report_.wait();
    manifest = std::move(job_->manifest);
    return report_.get();
  }

 private:
  template <class Save>
  [[nodiscard]] static std::future<Result<SaveReport>> started(const Save& save) {
    try {
      return std::async(std::launch::async, [save] {
        yield_to_other_threads();
        return save();
      });
    } catch (const std::system_error&) {
      std::packaged_task<Result<SaveReport>()> now(save);
      now();
      return now.get_future();
    }
  }

  std::unique_ptr<BackgroundSaveJob<S, C>> job_;  ///< before the future, whose destruction waits for its last use
  std::future<Result<SaveReport>> report_;
};

}  // namespace krul
