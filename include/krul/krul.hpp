#pragma once

// Everything that a program usually needs. Each header can be included by itself; reference/ (slow twins), eval/
// (costs, comparisons, protocols), calibrate/, simulate/ and backend/conformance.hpp are not part of this.

#include "krul/backend/attention_observer.hpp"
#include "krul/backend/forward.hpp"
#include "krul/backend/host_kv_cache.hpp"
#include "krul/backend/layer_batch.hpp"
#include "krul/backend/model_backend.hpp"
#include "krul/compress/any_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/conversation/verify.hpp"
#include "krul/core/version.hpp"
#include "krul/cpu_conversation.hpp"
#include "krul/model/load.hpp"
#include "krul/model/sampling.hpp"
#include "krul/restore/restoration_scheduler.hpp"
#include "krul/restore/restore.hpp"
#include "krul/store/file_store.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/store/throttled_store.hpp"
#include "krul/strategy/catalogue.hpp"
#include "krul/strategy/catalogue/krul.hpp"
