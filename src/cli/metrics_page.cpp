#include "metrics_page.hpp"

#include <cstdio>
#include <system_error>

#include "krul/core/escaped.hpp"
#include "krul/core/file_io.hpp"

namespace krul::cli {

MetricsPage::~MetricsPage() {
  if (!is_begun_) return;  // which was told
  if (const Status status = write(); !status)
    std::fprintf(stderr, "krul: the metrics could not be written: %s\n", escaped(status.error().message).c_str());
}

void MetricsPage::add(const StoreEvent& event) {
  const std::lock_guard guard(mutex_);
  counts_.add(event);
}

Status MetricsPage::write() {
  const auto text = [&] {
    const std::lock_guard guard(mutex_);
    return prometheus_text(counts_, {.labels = {{"store", store_}}});
  }();
  std::filesystem::path next = file_;
  next += ".new";
  if (Status status = krul::write_file(next, text); !status) return status;
  std::error_code error;
  std::filesystem::rename(next, file_, error);
  is_begun_ = is_begun_ || !error;
  if (!error) return {};
  std::error_code none;
  std::filesystem::remove(next, none);
  return fail(ErrorCode::io, file_.string() + " could not be replaced: " + error.message());
}

}  // namespace krul::cli
