#include "client.hpp"

#include <curl/curl.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <exception>
#include <new>
#include <random>
#include <stop_token>
#include <type_traits>

namespace krul::s3 {
namespace {

constexpr std::size_t longest_error = 64U << 10;                  // bytes of a failure's body that are read
constexpr Duration longest_nap = std::chrono::milliseconds(100);  // after which somebody looks at the clock again

template <class T, void (*Free)(T*)>
struct Freed {
  void operator()(T* what) const { Free(what); }
};
void free_url(char* text) {
  curl_free(text);
}
using Easy = std::unique_ptr<CURL, Freed<CURL, curl_easy_cleanup>>;
using Headers = std::unique_ptr<curl_slist, Freed<curl_slist, curl_slist_free_all>>;
using Escaped = std::unique_ptr<char, Freed<char, free_url>>;

template <class T>
T* made(T* what) {
  if (!what) throw std::bad_alloc();
  return what;
}

std::string sha256(std::span<const std::byte> bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1) throw std::bad_alloc();
  std::string text;
  for (unsigned i = 0; i < size; ++i) {
    text += "0123456789abcdef"[digest[i] >> 4];
    text += "0123456789abcdef"[digest[i] & 15];
  }
  return text;
}

std::string query_of(const Request& request) {
  std::string text;
  for (const auto& [name, value] : request.query) {
    const Escaped escaped(made(curl_easy_escape(nullptr, value.c_str(), static_cast<int>(value.size()))));
    text += (text.empty() ? "?" : "&") + name + "=" + escaped.get();
  }
  return text;
}

// Its value may be asked of a connection's library, and what it says of the cause is for people alone.
Error unreachable(CURLcode code, const std::string& action, const std::string& server, unsigned attempts) {
  const std::string cannot = "cannot " + action + ": ";
  const std::string why = curl_easy_strerror(code);
  switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
      return {ErrorCode::deadline, cannot + server + " did not answer in time, " + std::to_string(attempts) +
                                       " times; try again later, or allow more time"};
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
      return {ErrorCode::io, cannot + "the certificate of " + server + " is not trusted (" + why +
                                 "); name the authority's file (AWS_CA_BUNDLE)"};
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
      return {ErrorCode::io, cannot + server + " cannot be reached (" + why + "); check the endpoint and the network"};
    default:
      return {ErrorCode::io, cannot + "the connection to " + server + " failed, " + std::to_string(attempts) +
                                 " times (" + why + "); check the network and try again"};
  }
}

bool may_pass(CURLcode code) {
  constexpr std::array<CURLcode, 9> lasting = {
      CURLE_UNSUPPORTED_PROTOCOL, CURLE_FAILED_INIT,     CURLE_URL_MALFORMAT,
      CURLE_NOT_BUILT_IN,         CURLE_OUT_OF_MEMORY,   CURLE_PEER_FAILED_VERIFICATION,
      CURLE_SSL_CACERT_BADFILE,   CURLE_SSL_CERTPROBLEM, CURLE_BAD_FUNCTION_ARGUMENT};
  return std::find(lasting.begin(), lasting.end(), code) == lasting.end();
}

}  // namespace

/// Connections that are kept open, for one thread at a time.
class Client::Session {
 public:
  explicit Session(unsigned connections) : multi_(made(curl_multi_init())) {
    curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, static_cast<long>(connections));
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() {
    easies_.clear();
    curl_multi_cleanup(multi_);
  }
  [[nodiscard]] CURLM* multi() const noexcept { return multi_; }
  [[nodiscard]] Easy take() {
    if (easies_.empty()) return Easy(made(curl_easy_init()));
    Easy easy = std::move(easies_.back());
    easies_.pop_back();
    return easy;
  }
  void give(Easy easy) {
    curl_easy_reset(easy.get());
    easies_.push_back(std::move(easy));
  }

 private:
  CURLM* multi_;
  std::vector<Easy> easies_;
};

/// One call of run.
class Client::Loop {
 public:
  Loop(Client& client, Session& session, std::span<Transfer> transfers, const RequestLimits& limits)
      : client_(client), session_(session), transfers_(transfers), limits_(limits) {}
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  ~Loop() {
    while (!active_.empty()) release(active_.size() - 1);
  }

  void run(const std::function<void()>& meanwhile) {
    const std::stop_callback waker(limits_.stop, [multi = session_.multi()] { curl_multi_wakeup(multi); });
    left_ = transfers_.size();
    while (left_ > 0) {
      if (const Status status = limits_.check(client_.now()); !status) return give_up(status);
      start_due();
      if (left_ == 0) break;
      if (active_.empty()) {
        nap();
        continue;
      }
      int running = 0;
      if (const CURLMcode code = curl_multi_perform(session_.multi(), &running); code != CURLM_OK)
        return give_up(
            fail(ErrorCode::io, std::string("libcurl gave up (") + curl_multi_strerror(code) + "); try again"));
      collect();
      drop_idle();
      if (thrown_) std::rethrow_exception(thrown_);
      if (meanwhile) meanwhile();
      if (!active_.empty()) curl_multi_poll(session_.multi(), nullptr, 0, poll_ms(), nullptr);
    }
  }

 private:
  /// An attempt under way.
  struct Attempt {
    Loop* loop = nullptr;
    Transfer* transfer = nullptr;
    Easy easy;
    Headers headers;
    Request request;
    Answer answer;
    std::vector<std::byte> error;
    bool enough = false, too_large = false;
    curl_off_t moved = 0;
    TimePoint moved_at = {};

    // Nothing may be thrown through libcurl.
    template <class Step>
    std::size_t guarded(Step&& step) noexcept {
      try {
        return step();
      } catch (...) {
        if (!loop->thrown_) loop->thrown_ = std::current_exception();
        return 0;
      }
    }
  };

  static std::size_t on_header(char* data, std::size_t, std::size_t size, void* attempt) {
    auto& own = *static_cast<Attempt*>(attempt);
    return own.guarded([&] {
      take_header(own.answer, {data, size});
      return size;
    });
  }

  static std::size_t on_body(char* data, std::size_t, std::size_t size, void* attempt) {
    auto& own = *static_cast<Attempt*>(attempt);
    const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
    return own.guarded([&]() -> std::size_t {
      if (!own.answer.is_success()) {
        const std::size_t kept = std::min(size, longest_error - own.error.size());
        own.error.insert(own.error.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(kept));
        return size;
      }
      if (own.transfer->take) {
        if (own.transfer->take(own.answer, bytes)) return size;
        own.enough = true;
        return 0;
      }
      std::vector<std::byte>& body = own.answer.body;
      const std::uint64_t most = own.transfer->most;
      if (own.answer.length.value_or(0) > most || size > most - body.size()) {
        own.too_large = true;
        return 0;
      }
      if (body.empty()) body.reserve(static_cast<std::size_t>(own.answer.length.value_or(0)));
      body.insert(body.end(), bytes.begin(), bytes.end());
      return size;
    });
  }

  void start_due() {
    const TimePoint now = client_.now();
    for (Transfer& transfer : transfers_) {
      if (active_.size() == client_.options_.connections) return;
      if (!transfer.ended && transfer.next <= now && !is_active(transfer)) start(transfer, now);
    }
  }
  [[nodiscard]] bool is_active(const Transfer& transfer) const {
    return std::any_of(active_.begin(), active_.end(), [&](const auto& own) { return own->transfer == &transfer; });
  }

  void start(Transfer& transfer, TimePoint now) {
    if (transfer.attempts++ == 0) transfer.began = now;
    auto own = std::make_unique<Attempt>();
    own->loop = this;
    own->transfer = &transfer;
    own->request = transfer.request();
    own->easy = session_.take();
    own->moved_at = now;
    prepare(*own);
    curl_multi_add_handle(session_.multi(), own->easy.get());
    active_.push_back(std::move(own));
  }

  void prepare(Attempt& own) {
    const S3StoreOptions& options = client_.options_;
    const Request& request = own.request;
    CURL* const easy = own.easy.get();
    const auto header = [&](const std::string& line) {
      curl_slist* const longer = made(curl_slist_append(own.headers.get(), line.c_str()));
      static_cast<void>(own.headers.release());
      own.headers.reset(longer);
    };
    const std::string url = client_.server_ + client_.path_ + request.key + query_of(request);
    curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "krul");
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, milliseconds(options.connect_timeout));
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 256L << 10);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
    if (!options.ca_file.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, options.ca_file.c_str());
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &Loop::on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &own);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Loop::on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &own);
    if (request.method == "HEAD") {
      curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else if (request.method == "PUT" || request.method == "POST") {
      // For libcurl it is a form that lies in memory, which it neither copies nor asks for piece by piece.
      static constexpr char nothing = 0;
      curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
                       request.body.empty() ? &nothing : reinterpret_cast<const char*>(request.body.data()));
      curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
      curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
      header("Content-Type: application/octet-stream");
    } else if (request.method != "GET") {
      curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
    }
    if (request.range) {
      const auto [first, count] = *request.range;
      const std::string range = std::to_string(first) + "-" + std::to_string(first + count - 1);
      curl_easy_setopt(easy, CURLOPT_RANGE, range.c_str());
    }
    for (const std::string& line : request.headers) header(line);
    if (!options.access_key.empty()) {
      curl_easy_setopt(easy, CURLOPT_AWS_SIGV4, ("aws:amz:" + options.region + ":s3").c_str());
      curl_easy_setopt(easy, CURLOPT_USERNAME, options.access_key.c_str());
      curl_easy_setopt(easy, CURLOPT_PASSWORD, options.secret_key.c_str());
      header("X-Amz-Content-Sha256: " + sha256(request.body));
      if (!options.session_token.empty()) header("X-Amz-Security-Token: " + options.session_token);
    }
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, own.headers.get());
  }

  static long milliseconds(Duration duration) {
    return static_cast<long>(std::chrono::ceil<std::chrono::milliseconds>(duration).count());
  }

  /// @return the attempt, apart from libcurl
  std::unique_ptr<Attempt> release(std::size_t index) {
    std::unique_ptr<Attempt> own = std::move(active_[index]);
    active_.erase(active_.begin() + static_cast<std::ptrdiff_t>(index));
    curl_multi_remove_handle(session_.multi(), own->easy.get());
    session_.give(std::move(own->easy));
    return own;
  }

  void collect() {
    int queued = 0;
    while (const CURLMsg* const message = curl_multi_info_read(session_.multi(), &queued)) {
      if (message->msg != CURLMSG_DONE) continue;
      const CURLcode code = message->data.result;
      const auto found = std::find_if(active_.begin(), active_.end(),
                                      [&](const auto& own) { return own->easy.get() == message->easy_handle; });
      if (found != active_.end()) judge(*release(static_cast<std::size_t>(found - active_.begin())), code);
    }
  }

  void drop_idle() {
    const TimePoint now = client_.now();
    for (std::size_t i = active_.size(); i-- > 0;) {
      Attempt& own = *active_[i];
      curl_off_t up = 0, down = 0;
      long head = 0;
      curl_easy_getinfo(own.easy.get(), CURLINFO_SIZE_UPLOAD_T, &up);
      curl_easy_getinfo(own.easy.get(), CURLINFO_SIZE_DOWNLOAD_T, &down);
      curl_easy_getinfo(own.easy.get(), CURLINFO_HEADER_SIZE, &head);
      if (up + down + head != own.moved) {
        own.moved = up + down + head;
        own.moved_at = now;
      } else if (now - own.moved_at >= client_.options_.idle_timeout) {
        judge(*release(i), CURLE_OPERATION_TIMEDOUT);
      }
    }
  }

  void judge(Attempt& own, CURLcode code) {
    Transfer& transfer = *own.transfer;
    client_.took(own.answer);
    transfer.answer = std::move(own.answer);
    Answer& answer = transfer.answer;
    if (own.too_large)
      return end(transfer, fail(ErrorCode::too_large, "cannot " + transfer.action + ": there are more than " +
                                                          std::to_string(transfer.most) +
                                                          " bytes, which is more than there may be"));
    if (code == CURLE_OK || own.enough) {
      if (answer.is_success()) {
        if (!transfer.whole || transfer.whole(answer)) return end(transfer, {});
        code = CURLE_PARTIAL_FILE;
      } else {
        take_error(answer, own.error);
        if (passes(answer) && may_repeat(transfer)) return;
        return end(transfer, tl::unexpected<Error>(describe(answer, {.action = transfer.action,
                                                                     .bucket = client_.options_.bucket,
                                                                     .server = client_.server_,
                                                                     .clock_ahead_s = client_.machine_ahead_s_,
                                                                     .attempts = transfer.attempts})));
      }
    }
    if (may_pass(code) && may_repeat(transfer)) return;
    end(transfer, tl::unexpected<Error>(unreachable(code, transfer.action, client_.server_, transfer.attempts)));
  }

  void end(Transfer& transfer, Status status) {
    transfer.status = std::move(status);
    transfer.ended = true;
    --left_;
  }

  bool may_repeat(Transfer& transfer) {
    const S3Retries& retries = client_.options_.retries;
    const TimePoint now = client_.now();
    if (transfer.attempts > retries.most || now - transfer.began >= retries.in_all) return false;
    const int doublings = static_cast<int>(std::min(transfer.attempts - 1, 20U));
    const double longest = std::min(seconds(retries.longest_wait), std::ldexp(seconds(retries.first_wait), doublings));
    transfer.next = now + duration_of(longest * client_.options_.sources.random());
    return true;
  }

  void nap() {
    TimePoint until = client_.now() + longest_nap;
    for (const Transfer& transfer : transfers_)
      if (!transfer.ended) until = std::min(until, transfer.next);
    client_.options_.sources.sleep_until(std::min(until, limits_.deadline));
  }

  [[nodiscard]] int poll_ms() const {
    const TimePoint now = client_.now();
    Duration wait = longest_nap;
    if (limits_.deadline - now < wait) wait = limits_.deadline - now;
    for (const Transfer& transfer : transfers_)
      if (!transfer.ended && transfer.next > now) wait = std::min<Duration>(wait, transfer.next - now);
    return static_cast<int>(std::max(milliseconds(wait), 0L));
  }

  void give_up(const Status& status) {
    while (!active_.empty()) release(active_.size() - 1);
    for (Transfer& transfer : transfers_)
      if (!transfer.ended) end(transfer, status);
  }

  Client& client_;
  Session& session_;
  std::span<Transfer> transfers_;
  const RequestLimits& limits_;
  std::vector<std::unique_ptr<Attempt>> active_;
  std::size_t left_ = 0;
  std::exception_ptr thrown_;
};

Client::Client(const S3StoreOptions& options) : options_(options) {
  static const bool ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  if (!ready) throw std::bad_alloc();
  if (!options_.sources.random) options_.sources.random = [] { return std::random_device()() * 0x1p-32; };
  std::string endpoint =
      options_.endpoint.empty() ? "https://s3." + options_.region + ".amazonaws.com" : options_.endpoint;
  if (options_.path_style) {
    path_ = "/" + options_.bucket + "/";
  } else {
    endpoint.insert(endpoint.find("://") + 3, options_.bucket + ".");
    path_ = "/";
  }
  server_ = std::move(endpoint);
}

Client::~Client() = default;

void Client::run(std::span<Transfer> transfers, const RequestLimits& limits, const std::function<void()>& meanwhile) {
  std::unique_ptr<Session> session;
  {
    const std::lock_guard guard(mutex_);
    if (!idle_.empty()) {
      session = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (!session) session = std::make_unique<Session>(options_.connections);
  Loop(*this, *session, transfers, limits).run(meanwhile);
  if (meanwhile) meanwhile();
  const std::lock_guard guard(mutex_);
  idle_.push_back(std::move(session));
}

void Client::took(const Answer& answer) {
  if (!answer.unix_s) return;
  const auto calendar = std::chrono::system_clock::now().time_since_epoch();
  const std::lock_guard guard(mutex_);
  server_ahead_s_ = *answer.unix_s - std::chrono::floor<std::chrono::seconds>(now()).count();
  machine_ahead_s_ = std::chrono::floor<std::chrono::seconds>(calendar).count() - *answer.unix_s;
}

std::int64_t Client::server_unix_s() const {
  const std::lock_guard guard(mutex_);
  if (server_ahead_s_) return *server_ahead_s_ + std::chrono::floor<std::chrono::seconds>(now()).count();
  return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace krul::s3
