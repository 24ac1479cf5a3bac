"""The same answers, sooner: engines that compute on spikes, and scans over time."""
